//! The index says what the files say, and can always be rebuilt from them.

use nexa_core::index::{Index, Size};
use nexa_core::stage::Inputs;

use crate::support::{TestLab, Writer};

#[test]
fn the_index_can_be_rebuilt_from_the_files() {
    let lab = TestLab::new();
    let rows = lab.made(&Writer::new("one"), "rows", &Inputs::none());
    lab.made(&Writer::new("two"), "model", &Inputs::none().with("data", rows));
    let expected = Size { artifacts: 2, runs: 2 };
    assert_eq!(Index::open(&lab.lab).unwrap().size().unwrap(), expected);

    let rebuilt = Index::rebuild(&lab.lab).unwrap();
    assert_eq!(rebuilt.size().unwrap(), expected);
    assert_eq!(rebuilt.children("tutor/rows_v1").unwrap(), ["tutor/model_v1"]);
    drop(rebuilt);

    let file = lab.lab.state_folder().join("lab.db");
    std::fs::write(&file, b"this is no database at all, and long enough to be looked at").unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    let error = Index::open(&lab.lab).unwrap_err();
    assert!(nexa_core::Diagnose::hint(&error).unwrap().contains("--reindex"), "{error}");
    assert_eq!(Index::rebuild(&lab.lab).unwrap().size().unwrap(), expected);
}
