//! A conversation with a served model. The page is a frame; its script holds the conversation, in the browser alone.

use maud::{Markup, html};
use serde::Serialize;

use super::{Page, Section};
use crate::chat::ServerAddress;
use crate::request::Params;
use crate::server::Ui;
use crate::{Result, assets};

/// What chooses tokens: the name in the request, what it is called, and its bounds.
const SAMPLING: [Field; 4] = [
    Field { name: "temperature", label: "temperature", min: Some("0"), max: Some("2"), step: "any" },
    Field { name: "top_p", label: "top p", min: Some("0"), max: Some("1"), step: "any" },
    Field { name: "max_tokens", label: "max tokens", min: Some("1"), max: None, step: "1" },
    Field { name: "seed", label: "seed", min: None, max: None, step: "1" },
];

struct Field {
    name: &'static str,
    label: &'static str,
    min: Option<&'static str>,
    max: Option<&'static str>,
    step: &'static str,
}

/// What the page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    servers: Vec<ServerAddress>,
    server: ServerAddress,
    #[serde(skip)]
    token: String,
}

/// Gathers it.
pub(crate) fn gather(ui: &Ui, params: &Params) -> Result<Data> {
    let server = ui.upstream.find(params.get("server").unwrap_or_default())?.clone();
    Ok(Data { servers: ui.upstream.servers.clone(), server, token: ui.token().to_owned() })
}

/// Shows it.
pub(crate) fn page(data: &Data) -> Page {
    let body = html! {
        h1 { "Chat" }
        noscript { p.notice { "A chat needs JavaScript: its script is part of this program." } }
        div.chat #chat data-token=(data.token) {
            div.talk {
                div #turns role="log" aria-label="conversation" {}
                form #compose {
                    div.entry {
                        textarea #message rows="1" placeholder="message" aria-label="message" spellcheck="true" {}
                        button #send { "send" }
                        button #stop type="button" hidden { "stop" }
                    }
                    p.muted { kbd { "Enter" } " sends, " kbd { "Shift" } "+" kbd { "Enter" } " makes a line. The conversation is kept in this tab alone." }
                }
            }
            (settings(data))
        }
    };
    let page = Page::new("Chat", Section::Chat, body);
    Page { extra_script: Some(assets::chat()), ..page }
}

fn settings(data: &Data) -> Markup {
    html! {
        aside.settings {
            form #settings {
                label for="server" { "Server" }
                select #server name="server" {
                    @for server in &data.servers {
                        option value=(server.as_str()) selected[*server == data.server] { (server.as_str()) }
                    }
                }
                div #served aria-live="polite" {}
                label for="system" { "System prompt" }
                textarea #system rows="3" placeholder="none" spellcheck="true" {}
                div.pairs {
                    @for field in SAMPLING {
                        div {
                            label for=(field.name) { (field.label) }
                            input type="number" id=(field.name) name=(field.name) min=[field.min] max=[field.max] step=(field.step)
                                placeholder="server's" autocomplete="off" data-sampling="";
                        }
                    }
                }
                button #fresh type="button" { "new conversation" }
            }
        }
    }
}
