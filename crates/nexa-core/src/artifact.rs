//! Artifacts: what stages make, immutable, versioned, each with a manifest beside it.
//!
//! ```text
//! teacher_outputs_v1.parquet            the files, named for the artifact …
//! teacher_outputs_v1.rejected.parquet
//! teacher_outputs_v1.manifest.json      … and the manifest, written last: without it there is no artifact
//! student_v1/model.safetensors          kinds that are folders hold their files inside
//! student_v1.manifest.json
//! registry/tags.jsonl                   words for versions, which can be moved
//! registry/removed.jsonl                what retention removed; of each, the manifest is kept in `removed/`
//! ```
//!
//! [`Store::resolve`] is the one door from what people write to an artifact. [`Collection`] is the one that removes.

mod checkout;
mod collect;
mod manifest;
mod reference;
mod removed;
mod retention;
mod store;
mod tags;

pub use collect::{Collected, Collection, Gone, Kept, Leftover, Remains};
pub use manifest::{
    ArtifactId, Column, Counts, FileEntry, Kind, MANIFEST_VERSION, Manifest, Parent, Producer,
};
pub use reference::LATEST;
pub use removed::{Removal, Removed};
pub use retention::{Age, Reason, Retention};
pub use store::{Artifact, Draft, Store};
pub(crate) use store::{DRAFT_FOLDER, lock};
pub use tags::{Change, RolledBack, TagChange, Tagged, Tags};
