//! Serves a model without weights, for trying out clients: `cargo run --example fake_server -- [PORT] [KEY]`.

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/fake.rs"]
mod fake;

use std::io::Write;

use nexa_core::env::Secret;
use nexa_core::event::Cancel;
use nexa_serve::{Engine, EngineConfig, Error, Life, Loaded, ServerConfig, serve};

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(0);
    let config =
        ServerConfig { port, api_keys: arguments.map(Secret::new).collect(), ..ServerConfig::default() };
    let load = || {
        let model = fake::Fake::saying("Hello, wörld! 世界 🦀");
        Ok(Loaded::from(Engine::start(Box::new(model), EngineConfig::default())?))
    };
    let announce = |life| {
        if let Life::Ready(address) = life {
            // Whoever reads this line knows that requests are answered; without a reader there is nothing to tell.
            let _ = writeln!(std::io::stdout(), "http://{address}");
        }
    };
    serve::<Error>(load, &config, announce, &Cancel::default())
}
