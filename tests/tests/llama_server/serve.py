"""Serves a GGUF file with llama.cpp's OpenAI-compatible server until the standard input closes.

Arguments: folder of the installed package, model file, API key. Prints the address once it listens.
"""

import sys

sys.path.insert(0, sys.argv[1])
import xllamacpp  # noqa: E402

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[2]
parameters.n_ctx = 4096
parameters.n_parallel = 1
# One thread: two spin while they wait for each other, which is slow beside other tests.
parameters.cpuparams.n_threads = 1
parameters.hostnames = ["127.0.0.1"]
parameters.port = 0
parameters.api_keys = [sys.argv[3]]
server = xllamacpp.Server(parameters)
print("listening on", server.listening_address, flush=True)
sys.stdin.read()
