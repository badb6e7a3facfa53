//! What only the meaning of the settings can tell about the gateway, TLS and what is told to others.

use std::net::SocketAddr;

use super::settings::Settings;

/// Tells of everything that makes no sense: whether it holds, the key, and what would be right.
pub(super) fn check(settings: &Settings, check: &mut impl FnMut(bool, &str, &str)) {
    let Settings { server, gateway, observability, .. } = settings;
    for (key, address) in [
        ("gateway.rest_address", &gateway.rest_address),
        ("gateway.grpc_address", &gateway.grpc_address),
    ] {
        check(
            address.parse::<SocketAddr>().is_ok(),
            key,
            "must be an address and a port, such as \"127.0.0.1:6343\"",
        );
    }
    for (key, number) in [
        ("gateway.deadline_milliseconds", gateway.deadline_milliseconds as usize),
        ("gateway.maximum_reranks", gateway.maximum_reranks),
        ("gateway.upstream_connections", gateway.upstream_connections),
        ("gateway.connect_timeout_milliseconds", gateway.connect_timeout_milliseconds as usize),
        ("gateway.upstream_timeout_seconds", gateway.upstream_timeout_seconds as usize),
        ("gateway.body_seconds", gateway.body_seconds as usize),
    ] {
        check(number >= 1, key, "must be at least 1");
    }
    check(
        gateway.maximum_buffered_bytes >= gateway.maximum_body_bytes,
        "gateway.maximum_buffered_bytes",
        "must be at least `gateway.maximum_body_bytes`, or the largest query is never reranked",
    );
    check(
        gateway.upstream_api_key.is_none() || !gateway.keys().clients.is_empty(),
        "gateway.upstream_api_key",
        "needs `gateway.api_keys`, or everyone who reaches the gateway has the server's key",
    );
    check(
        !gateway.key_limits.bound() || !gateway.keys().clients.is_empty(),
        "gateway.key_limits",
        "needs `gateway.api_keys`: without keys nobody is told apart, and nobody is bounded",
    );
    for (section, certificate, key, authority) in [
        (
            "gateway",
            &gateway.certificate,
            &gateway.certificate_key,
            &gateway.client_certificate_authority,
        ),
        (
            "server",
            &server.certificate,
            &server.certificate_key,
            &server.client_certificate_authority,
        ),
    ] {
        check(
            certificate.is_some() == key.is_some(),
            &format!("{section}.certificate"),
            &format!("and `{section}.certificate_key` must be given together"),
        );
        check(
            authority.is_none() || certificate.is_some(),
            &format!("{section}.client_certificate_authority"),
            &format!("needs `{section}.certificate`: clients prove themselves through TLS alone"),
        );
    }
    check(
        server.health_address.as_ref().is_none_or(|address| address.parse::<SocketAddr>().is_ok()),
        "server.health_address",
        "must be an address and a port, such as \"127.0.0.1:6381\"",
    );
    check(
        (0.0..=1.0).contains(&observability.otlp_sample),
        "observability.otlp_sample",
        "is a share: it must be from 0 to 1",
    );
    check(
        observability.otlp_timeout_seconds >= 1,
        "observability.otlp_timeout_seconds",
        "must be at least 1",
    );
    let endpoint = observability.otlp_endpoint.as_deref();
    check(
        endpoint.is_none_or(|url| url.starts_with("http://") || url.starts_with("https://")),
        "observability.otlp_endpoint",
        "must begin with `http://` or `https://`, such as \"http://localhost:4317\"",
    );
    check(!gateway.payload_key.is_empty(), "gateway.payload_key", "must not be empty");
}

#[cfg(test)]
mod tests {
    use super::super::read_text;

    fn check(text: &str, expected: &str) {
        let faults = read_text(text, &[]).unwrap_err().to_string();
        assert!(faults.contains(expected), "{faults}");
    }

    #[test]
    fn listeners_that_cannot_work_are_refused_with_their_line() {
        check("[gateway]\nupstream_api_key = \"k\"\n", "line 2: gateway.upstream_api_key");
        check(
            "[gateway.key_limits]\nrequests_per_second = 5\n",
            "line 1: gateway.key_limits: needs `gateway.api_keys`",
        );
        check("[gateway]\ncertificate = \"c.pem\"\n", "line 2: gateway.certificate");
        check("[server]\ncertificate_key = \"k.pem\"\n", "server.certificate: and `server");
        check(
            "[server]\nclient_certificate_authority = \"ca.pem\"\n",
            "line 2: server.client_certificate_authority: needs `server.certificate`",
        );
        check("[observability]\notlp_sample = 2.0\n", "line 2: observability.otlp_sample");
        check("[observability]\notlp_endpoint = \"x:1\"\n", "line 2: observability.otlp_endpoint");
        check("[server]\nhealth_address = \"here\"\n", "line 2: server.health_address");
    }
}
