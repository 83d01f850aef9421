//! Trees of what was made from what.

use nexa_core::artifact::Store;
use nexa_core::lineage::{ancestors, descendants};
use nexa_core::stage::Inputs;

use crate::support::{TestLab, Writer};

#[test]
fn a_tree_names_parents_roles_and_changes() {
    let lab = TestLab::new();
    let outside = lab.lab.root().join("raw.txt");
    std::fs::write(&outside, "a").unwrap();
    let rows =
        lab.made(&Writer { outside: vec![outside.clone()], ..Writer::new("one") }, "rows", &Inputs::none());
    let model = lab.made(&Writer::new("two"), "model", &Inputs::none().with("data", rows.clone()));
    let store = Store::new(&lab.lab);

    let up = ancestors(&store, model.id()).unwrap();
    assert_eq!(up.next[0].id, "tutor/rows_v1");
    assert_eq!(up.next[0].role, "data");
    assert_eq!(up.next[0].next[0].kind, "file");
    assert!(!up.next[0].next[0].changed);
    let drawn = up.render();
    assert!(drawn.lines().nth(1).unwrap().starts_with("└─ data: tutor/rows_v1  [dataset "), "{drawn}");

    std::fs::write(&outside, "b").unwrap();
    let up = ancestors(&store, model.id()).unwrap();
    assert!(up.next[0].next[0].changed && up.render().contains("CHANGED SINCE"));

    let down = descendants(&store, rows.id()).unwrap();
    assert_eq!(down.next[0].id, "tutor/model_v1");
}
