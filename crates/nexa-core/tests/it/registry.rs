//! Tags, what they lead to, what retention removes, and what a kill leaves of that.

use nexa_core::artifact::{
    Change, Collection, Kind, Reason, Remains, Retention, RolledBack, Store, Tagged, Tags,
};
use nexa_core::run::{self, Status};
use nexa_core::stage::Inputs;
use nexa_core::{Error, ExitCode, files, lineage};

use crate::support::{TestLab, Writer};

const BY_ANA: Change<'_> = Change { by: "ana", moves: false };

fn collection(lab: &TestLab, keep_last: usize) -> Collection<'_> {
    let retention = Retention { keep_last, older_than: None };
    Collection { lab: &lab.lab, project: lab.project.clone(), retention }
}

fn stems(lab: &TestLab) -> Vec<String> {
    Store::new(&lab.lab).of_project("tutor").unwrap().iter().map(|one| one.id().stem()).collect()
}

/// Three versions of rows, of which the first has a model.
fn three_versions() -> TestLab {
    let lab = TestLab::new();
    let first = lab.made(&Writer::new("one"), "rows", &Inputs::none());
    lab.made(
        &Writer { kind: Kind::Checkpoint, ..Writer::new("m") },
        "model",
        &Inputs::none().with("rows", first),
    );
    lab.made(&Writer::new("two"), "rows", &Inputs::none());
    lab.made(&Writer::new("three"), "rows", &Inputs::none());
    lab
}

#[test]
fn a_tag_leads_to_a_version_until_it_is_moved() {
    let lab = three_versions();
    let (store, tags) = (Store::new(&lab.lab), Tags::new(&lab.lab, "tutor").unwrap());
    let version = |text: &str| store.resolve("tutor", text).unwrap().id().version;
    let [first, second] = ["rows@v1", "rows@v2"].map(|text| store.resolve("tutor", text).unwrap());
    assert_eq!(tags.set(&first, "prod", BY_ANA).unwrap(), Tagged::New);
    assert_eq!(tags.set(&first, "prod", BY_ANA).unwrap(), Tagged::Already);
    assert_eq!((version("rows:prod"), version("tutor/rows@prod"), version("rows:latest")), (1, 1, 3));

    let refused = tags.set(&second, "prod", BY_ANA).unwrap_err();
    assert!(refused.to_string().contains("rows@v1 has it; `--move`"), "{refused}");
    let moves = Change { moves: true, ..BY_ANA };
    assert_eq!(tags.set(&second, "prod", moves).unwrap(), Tagged::Moved { from: 1 });
    assert_eq!(version("rows:prod"), 2);
    assert_eq!(tags.remove("rows", "prod", "bo").unwrap(), 2);
    assert!(tags.all().unwrap().is_empty());
    let told: Vec<_> = tags.history().unwrap().into_iter().map(|one| (one.version, one.by)).collect();
    assert_eq!(told, [(Some(1), "ana".into()), (Some(2), "ana".into()), (None, "bo".into())]);
}

#[test]
fn a_tag_goes_back_the_way_it_came() {
    let lab = three_versions();
    let (store, tags) = (Store::new(&lab.lab), Tags::new(&lab.lab, "tutor").unwrap());
    for version in 1..=3 {
        let artifact = store.resolve("tutor", &format!("rows@v{version}")).unwrap();
        tags.set(&artifact, "prod", Change { moves: true, ..BY_ANA }).unwrap();
    }
    let back = |from, to| assert_eq!(tags.roll_back("rows", "prod", "bo").unwrap(), RolledBack { from, to });
    back(3, 2);
    back(2, 1);
    let error = tags.roll_back("rows", "prod", "bo").unwrap_err();
    assert!(error.to_string().contains("rows:prod before v1"), "{error}");
    assert_eq!(store.resolve("tutor", "rows:prod").unwrap().id().version, 1);
    assert!(tags.roll_back("rows", "test", "bo").is_err());
}

#[test]
fn a_tag_that_leads_nowhere_says_what_there_is() {
    let lab = three_versions();
    let store = Store::new(&lab.lab);
    let tags = Tags::new(&lab.lab, "tutor").unwrap();
    tags.set(&store.resolve("tutor", "rows").unwrap(), "prod", BY_ANA).unwrap();
    let check = |text: &str, expected: &str, hint: &str| {
        let error = store.resolve("tutor", text).unwrap_err();
        let told = nexa_core::Diagnose::hint(&error).unwrap_or_default();
        assert!(error.to_string().contains(expected) && told.contains(hint), "{error}; {told}");
    };
    check("rows:prd", "find tag `rows:prd`", "its tags are: prod");
    check("model:prod", "find tag `model:prod`", "it has no tags");
    check("row:prod", "find artifact `row:prod`", "project tutor holds: rows");
    check("rows@v9", "find artifact `tutor/rows_v9`", "project tutor holds: rows");
}

#[test]
fn what_may_go_goes_and_is_still_known() {
    let lab = three_versions();
    let planned = collection(&lab, 1).plan().unwrap();
    assert_eq!(stems(&lab).len(), 4, "a plan removes nothing");
    assert_eq!(collection(&lab, 1).remove("ana").unwrap(), planned);
    assert_eq!(stems(&lab), ["rows_v1", "rows_v3", "model_v1"]);
    let why = |stem: &str| {
        let kept = planned.kept.iter().find(|one| one.id.stem() == stem).unwrap();
        kept.reasons.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(why("rows_v1"), ["tutor/model_v1 descends from it"]);
    assert_eq!(why("rows_v3"), ["among the newest of its name"]);

    let store = Store::new(&lab.lab);
    let error = store.resolve("tutor", "rows_v2").unwrap_err();
    assert!(
        nexa_core::Diagnose::hint(&error).unwrap().contains("`nexa data gc` removed it on 20"),
        "{error}"
    );
    let id = store.resolve_id("tutor", "rows@v2").unwrap();
    let tree = lineage::ancestors(&store, &id).unwrap();
    assert!(tree.removed.is_some() && tree.render().contains("REMOVED by gc at 20"), "{}", tree.render());
    let removals = store.removals("tutor").unwrap();
    assert_eq!((removals.len(), removals[0].by.as_str(), removals[0].bytes), (1, "ana", 3));
    assert_eq!(removals[0].content_hash, store.removed("tutor").unwrap()[0].manifest.content_hash);
}

#[test]
fn versions_are_given_out_once() {
    let lab = three_versions();
    collection(&lab, 1).remove("ana").unwrap();
    // The newest of a name is never collected; by hand it can be.
    let newest = Store::new(&lab.lab).resolve("tutor", "rows").unwrap();
    files::remove(&newest.manifest_path()).unwrap();
    files::remove(&newest.file("jsonl").unwrap()).unwrap();
    assert_eq!(lab.made(&Writer::new("four"), "rows", &Inputs::none()).id().version, 3);
}

#[test]
fn a_tagged_version_stays_with_what_it_descends_from() {
    let lab = three_versions();
    let store = Store::new(&lab.lab);
    let second = store.resolve("tutor", "rows@v2").unwrap();
    Tags::new(&lab.lab, "tutor").unwrap().set(&second, "prod", BY_ANA).unwrap();
    let collected = collection(&lab, 1).remove("ana").unwrap();
    assert_eq!(collected.removed, []);
    let kept = collected.kept.iter().find(|one| one.id.stem() == "rows_v2").unwrap();
    assert_eq!(kept.reasons, [Reason::Tagged { tags: vec!["prod".to_owned()] }]);
}

#[test]
fn what_an_unfinished_run_reads_stays_until_it_is_done() {
    let lab = three_versions();
    let second = Store::new(&lab.lab).resolve("tutor", "rows@v2").unwrap();
    let stage = Writer { failures: 1, ..Writer::new("m2") };
    let inputs = Inputs::none().with("rows", second);
    lab.execute(&stage, "summary", &inputs).unwrap_err();
    let collected = collection(&lab, 1).remove("ana").unwrap();
    assert_eq!(collected.removed, []);
    assert!(stems(&lab).contains(&"rows_v2".to_owned()));
    lab.made(&stage, "summary", &inputs);
    lab.made(&Writer::new("m3"), "summary", &Inputs::none());
    let collected = collection(&lab, 1).remove("ana").unwrap();
    let gone: Vec<_> = collected.removed.iter().map(|one| one.id.stem()).collect();
    assert_eq!(gone, ["summary_v1", "rows_v2"], "children first");
}

#[test]
fn an_input_that_was_collected_meanwhile_is_not_read() {
    let lab = three_versions();
    let second = Store::new(&lab.lab).resolve("tutor", "rows@v2").unwrap();
    let held = second.clone();
    collection(&lab, 1).remove("ana").unwrap();
    // As if the removal fell between the check of the input and the record of the run.
    files::write_atomic(&held.file("jsonl").unwrap(), b"two").unwrap();
    let error = lab.execute(&Writer::new("m"), "late", &Inputs::none().with("rows", held)).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Input);
    assert!(run::all(&lab.lab).unwrap().iter().all(|record| record.name != "late"), "no run was begun");
}

#[test]
fn what_a_kill_leaves_is_swept_by_the_next_collection() {
    let lab = three_versions();
    let store = Store::new(&lab.lab);
    let victim = store.resolve("tutor", "rows@v2").unwrap();
    let file = victim.file("jsonl").unwrap();
    // As a kill right behind the move of the manifest leaves it: the files, and no line in the log.
    let removed = lab.project.registry_folder().join("removed");
    files::create_folder(&removed).unwrap();
    std::fs::rename(victim.manifest_path(), removed.join("rows_v2.manifest.json")).unwrap();
    assert!(matches!(store.resolve("tutor", "rows@v2"), Err(Error::NotFound { .. })));
    assert!(lineage::ancestors(&store, victim.id()).unwrap().removed.unwrap().at.is_none());

    // And as kills leave a draft, a commit and a manifest that was being written.
    let killed = Writer { failures: 1, ..Writer::new("k") };
    lab.execute(&killed, "half", &Inputs::none()).unwrap_err();
    let mut record = run::all(&lab.lab).unwrap().into_iter().find(|one| one.name == "half").unwrap();
    record.status = Status::Running;
    let folder = run::folder(&lab.lab, &record.id);
    record.write(&folder).unwrap();
    let datasets = file.parent().unwrap();
    std::fs::write(datasets.join("half_v1.jsonl"), "half").unwrap();
    std::fs::write(datasets.join(".tmp-abc"), "{").unwrap();
    std::fs::write(datasets.join("notes_v1.txt"), "of a person").unwrap();

    let swept = collection(&lab, 5).remove("ana").unwrap().swept;
    let what: Vec<_> = swept.iter().map(|one| one.what).collect();
    assert_eq!(what, [Remains::Draft, Remains::Temporary, Remains::Commit, Remains::Removed]);
    assert!(!file.exists() && !folder.join(".draft").exists() && folder.join("kept.txt").is_file());
    assert!(datasets.join("notes_v1.txt").is_file(), "what nobody knows is left alone");
    assert_eq!(store.removals("tutor").unwrap().len(), 1, "the line is made up for");
    assert_eq!(collection(&lab, 5).plan().unwrap().swept, []);
    lab.made(&killed, "half", &Inputs::none());
}

#[test]
fn nothing_is_collected_where_something_cannot_be_read() {
    let lab = three_versions();
    let newest = Store::new(&lab.lab).resolve("tutor", "rows").unwrap();
    std::fs::write(newest.manifest_path(), "{").unwrap();
    let error = collection(&lab, 1).remove("ana").unwrap_err();
    assert!(error.to_string().contains("rows_v3.manifest.json"), "{error}");
    assert!(lab.lab.root().join(Kind::Dataset.folder("tutor")).join("rows_v2.jsonl").is_file());
}

#[test]
fn a_version_is_checked_out_whole_or_not_at_all() {
    let lab = three_versions();
    let store = Store::new(&lab.lab);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let rows = store.resolve("tutor", "rows@v1").unwrap();
    let names = |at: &std::path::Path| files::walk(at).unwrap();
    rows.checkout(&out).unwrap();
    assert_eq!(names(&out), ["rows_v1.jsonl", "rows_v1.manifest.json"].map(std::path::PathBuf::from));
    std::fs::write(out.join("rows_v1.jsonl"), "mine now").unwrap();
    rows.verify().unwrap();
    let error = rows.checkout(&out).unwrap_err();
    assert!(error.to_string().contains("not an empty folder"), "{error}");

    let model = store.resolve("tutor", "model").unwrap();
    model.checkout(&folder.path().join("model")).unwrap();
    assert!(folder.path().join("model/jsonl").is_file());
    std::fs::write(model.file("jsonl").unwrap(), "bit rot").unwrap();
    let error = model.checkout(&folder.path().join("again")).unwrap_err();
    assert_eq!(nexa_core::Diagnose::exit_code(&error), ExitCode::Integrity);
    assert!(!folder.path().join("again").exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half is left");
}
