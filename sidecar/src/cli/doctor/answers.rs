//! What answers, and to whom: keys, ports, the LLM.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Findings;
use crate::access::KeyRole;
use crate::cli::runtime::generator_settings;
use crate::config::Settings;
use crate::generator::{
    self, ConsumerBrief, Evidence, EvidenceItem, GeneratorKind, ItemBrief, PairContext, Source,
    Statistics, Writer,
};
use crate::storage::Backend;

/// Longer than this nobody waits for a sentence.
const PATIENCE: Duration = Duration::from_secs(180);

/// Who is let in.
pub(super) fn keys(settings: &Settings, findings: &mut Findings) {
    let server = &settings.server;
    let roles = [KeyRole::Admin, KeyRole::Search, KeyRole::Campaign, KeyRole::Seller];
    let held = |role: KeyRole| server.keys.iter().filter(|key| key.role == role).count();
    let what = "server.keys";
    if server.keys.is_empty() {
        if is_local(&server.address) {
            findings.ok(what, format!("none; only this machine reaches {}", server.address));
        } else {
            let found =
                format!("none: everybody who reaches {} may ask everything", server.address);
            let todo =
                "whyrank key --name NAME --role admin, and put its entry into the configuration";
            findings.warning(what, found, todo);
        }
    } else if held(KeyRole::Admin) == 0 {
        findings.warning(
            what,
            "none has the role `admin`: nobody reaches /v1/queue and /v1/models",
            "whyrank key --name NAME --role admin",
        );
    } else {
        let counts = roles.map(|role| format!("{} {}", held(role), role.name()));
        findings.ok(what, counts.join(", "));
    }
    for (place, key) in server.keys.iter().enumerate() {
        let same =
            |other: &&crate::access::AccessKey| other.sha256.eq_ignore_ascii_case(&key.sha256);
        if let Some(other) = server.keys[..place].iter().find(same) {
            findings.warning(
                what,
                format!("{:?} and {:?} are the same key", other.name, key.name),
                "give each holder a key of their own with `whyrank key`",
            );
        }
    }
    let gateway = &settings.gateway;
    let open = [&gateway.rest_address, &gateway.grpc_address].iter().any(|one| !is_local(one));
    if gateway.api_keys.is_empty() && open && settings.store.backend == Backend::Embedded {
        findings.warning(
            "gateway.api_keys",
            "none, and the embedded store has no keys of its own: everybody who reaches the gateway may \
             change it",
            "set `gateway.api_keys`, or let the gateway listen on 127.0.0.1",
        );
    }
}

fn is_local(address: &str) -> bool {
    address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}

/// Whether the ports can be listened on; a running server has them.
pub(super) fn ports(settings: &Settings, running: bool, findings: &mut Findings) {
    for (key, address) in [
        ("server.address", &settings.server.address),
        ("gateway.rest_address", &settings.gateway.rest_address),
        ("gateway.grpc_address", &settings.gateway.grpc_address),
    ] {
        match TcpListener::bind(address) {
            Ok(_) => findings.ok(key, format!("{address} is free")),
            Err(error) if error.kind() == ErrorKind::AddrInUse && running => {
                findings.ok(key, format!("{address} is in use while a server runs"));
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => findings.warning(
                key,
                format!("{address} is in use"),
                "nothing, if that is this server; else stop what holds the port, or set another",
            ),
            Err(error) => findings.fault(
                key,
                format!("{address} cannot be listened on: {error}"),
                "set an address of this machine and a port that this user may take",
            ),
        }
    }
}

/// Has the generator write about an invented pair.
pub(super) async fn generator(settings: &Settings, findings: &mut Findings) {
    let kind = settings.generator.kind;
    let todo = match kind {
        GeneratorKind::Mistralrs => "see the line of its weights; whyrank fetch brings them again",
        GeneratorKind::OpenAi => {
            "see whether the server runs, and that `generator.openai.base_url`, `model` and the key are right"
        }
        GeneratorKind::Template => "correct `generator.prompts`",
    };
    let begun = Instant::now();
    let outcome = tokio::time::timeout(PATIENCE, written(settings)).await;
    let seconds = begun.elapsed().as_secs_f64();
    match outcome {
        Err(_) => {
            findings.fault("generator", format!("no answer within {seconds:.0} s"), todo);
        }
        Ok(Err(error)) => findings.fault("generator", format!("{error:#}"), todo),
        Ok(Ok((who, Source::Template, refusals))) if kind != GeneratorKind::Template => {
            findings.warning(
                "generator",
                format!("{who} answers, but nothing that can be used: {refusals}"),
                "take a larger model, or a `generator.prompt_style` that suits it; the template writes instead",
            );
        }
        Ok(Ok((who, _, _))) => {
            findings.ok("generator", format!("{who} wrote a reason in {seconds:.1} s"));
        }
    }
}

/// Who wrote, what did, and why attempts were refused.
async fn written(settings: &Settings) -> anyhow::Result<(String, Source, String)> {
    let settings = generator_settings(settings, &settings.open_weights()?, None)?;
    let generator = generator::build(&settings).await?;
    let writer = Writer::from_settings(generator, &settings)?;
    let film = |title: &str, rating: f32| EvidenceItem {
        title: title.to_owned(),
        attributes: vec!["Drama".to_owned()],
        rating,
        similarity: 0.9,
    };
    let pair = PairContext {
        consumer: ConsumerBrief {
            attributes: vec![("occupation".to_owned(), "sailor".to_owned())],
            statistics: Statistics { count: 12, mean_rating: 3.5 },
        },
        item: ItemBrief {
            title: "Quiet Harbour".to_owned(),
            text: "A fisherman comes home.".to_owned(),
            attributes: vec!["Drama".to_owned()],
        },
        evidence: Evidence {
            liked: vec![film("The Long Tide", 5.0), film("Northern Light", 4.0)],
            disliked: vec![film("Loud Night", 1.0)],
        },
    };
    let written = writer.write(&pair, 1, None, CancellationToken::new()).await?;
    let who = format!("{}/{}", written.generator.generator, written.generator.model);
    let mut refusals: Vec<String> =
        written.refusals.iter().map(|refusal| format!("{refusal:?}")).collect();
    refusals.dedup();
    Ok((who, written.source, refusals.join(", ")))
}
