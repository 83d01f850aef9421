//! What can be typed. Only spelling and help; what it means is decided in [`crate::commands`].

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use nexa_core::artifact::Age;

/// An ML lab in a box: from raw data to a served model.
#[derive(Debug, Parser)]
#[command(name = "nexa", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Every command can be repeated: what is up to date is skipped, what was stopped goes on.\n\
    Exit codes: 0 done, 1 failure, 2 usage, 3 config, 4 input, 5 integrity, 6 unavailable, 7 credentials,\n\
    8 budget, 9 storage, 10 made by a newer version, 11 a stage failed, 12 busy, 130 interrupted."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The settings that most people change, for the help.
const TRAIN_KEYS: &str = "\
Settings that most people change (KEY=VALUE, or the same in --config):
  device=auto             cpu, or cuda:N, rocm:N, metal:N, vulkan:N, webgpu:N in a binary built for them (bf16)
  base_model=REF          the model to go on from: a checkpoint of the lab, a folder, a .gguf file, hf:org/name[@rev]
  model.hidden_size=128   the shape of a model from scratch (model.num_hidden_layers, model.intermediate_size, …)
  objective=sft           sft, pretrain, dpo (rl_beta, dpo_loss), distill (kd_divergence; --in teacher=CHECKPOINT, kd_top_k)
  adapter=lora            trains adapters over frozen weights (lora_r, lora_alpha, lora_dropout, lora_target_modules)
  optimizer=adamw         adamw, muon, adafactor (weight_decay, max_grad_norm)
  learning_rate=2e-3      the peak; 2e-5 for a base_model, ten times that for adapters, 1e-6 for dpo (lr_scheduler: cosine,
                          linear, constant, wsd; warmup_steps or warmup_ratio)
  sequence_len=512        the longest sample in tokens; longer ones are dropped (excess_length_strategy: truncate, raise)
  micro_batch_size=16     samples computed at once (gradient_accumulation_steps, sample_packing, gradient_checkpointing)
  num_epochs=1            or max_steps, max_tokens, max_time_s
  datasets=[{type: …}]    how rows are read (chat_template, roles_to_train, train_on_inputs, train_on_eos), and mixed:
                          datasets=[{name: a, weight: 3}, {name: b, weight: 1}]
  eval_steps=100          validations on the way (val_set_size, early_stopping_patience, load_best_model_at_end)
  save_steps=200          what a kill costs at most (save_total_limit)
  report_to=[tensorboard] also mlflow, wandb (mlflow.tracking_uri, tensorboard.log_dir, wandb.dir)";

/// Options of every command.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Global {
    /// Folder of the lab; else it is found by walking up to `nexa.yaml`.
    #[arg(long, global = true, env = "NEXA_LAB", value_name = "DIR")]
    pub(crate) lab: Option<PathBuf>,
    /// The project; else the default of `nexa.yaml`.
    #[arg(long, global = true, alias = "project-slug", value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// Prints listings as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a lab in a folder.
    Init {
        /// The folder; the current one where it is left out.
        folder: Option<PathBuf>,
    },
    /// Runs the whole way on generated word problems: no network, no keys, a few minutes.
    Demo(DemoArgs),
    /// Tells what this machine and this lab are, and what is wrong with them.
    Doctor {
        /// Rebuilds the index from manifests and run records.
        #[arg(long)]
        reindex: bool,
        /// Hashes every file of every artifact and compares with its manifest.
        #[arg(long)]
        verify: bool,
    },
    /// Runs a pipeline.
    Run(RunArgs),
    /// Ingests, lists, compares, tags and verifies data sets.
    #[command(subcommand)]
    Data(DataCommand),
    /// Ingests raw files to a data set (the same as `nexa data ingest`).
    #[command(alias = "prepare_data")]
    PrepareData(StageArgs),
    /// Prompts, teachers, gates and packaging.
    #[command(subcommand)]
    Distill(DistillCommand),
    /// Trains tokenizers.
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
    /// Trains a model, from scratch or from a given one on.
    #[command(alias = "launch", after_help = TRAIN_KEYS)]
    Train(TrainArgs),
    /// Measures this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Says what a training would take, before it is begun: steps, tokens, memory, time and cost.
    #[command(after_help = "It reads what `nexa train` reads and does one step that leads nowhere.")]
    Plan(StageArgs),
    /// Evaluates a checkpoint on the held-out split, or by tasks such as gsm8k.
    #[command(after_help = EVALUATE_KEYS)]
    Evaluate(Box<EvaluateArgs>),
    /// Has judges score what an evaluated model answered, or compare two models; `report` tells what verdicts come to.
    #[command(after_help = JUDGE_KEYS)]
    Judge(Box<JudgeArgs>),
    /// Ranks the evaluated checkpoints of a project, task by task.
    Leaderboard(LeaderboardArgs),
    /// Finds what an evaluated checkpoint fails at, and aims new prompts for a teacher at that.
    #[command(after_help = FEEDBACK_KEYS)]
    Feedback(FeedbackArgs),
    /// Measures guard rules on labelled texts: what they catch, and what they block for nothing.
    Guard(GuardArgs),
    /// Serves a checkpoint over HTTP.
    #[command(alias = "serve")]
    Inference(Box<InferenceArgs>),
    /// Opens the dashboards.
    Ui(UiArgs),
    /// Lists runs, or shows one.
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Prints where an artifact or a row comes from, or what was made of it.
    #[command(after_help = LINEAGE_KINDS)]
    Lineage(LineageArgs),
    /// Imports, exports and describes models.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Sums what runs cost.
    Cost {
        /// By what teachers' answers cost, and what an accepted row of them does.
        #[arg(long)]
        teachers: bool,
    },
    /// A word of the original that this version does not hold yet.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// The settings of an evaluation, for the help.
const EVALUATE_KEYS: &str = "\
Settings: tasks, split, limit, max_tokens, num_fewshot, include_path, data, apply_chat_template,
fewshot_as_multiturn, system_instruction, gen_kwargs, bootstrap, contamination, stop_when_decided, batch, cache,
fewshot_seed, seed.
Documents are looked for in data/raw/benchmarks/TASK; nothing is downloaded.";

/// What lineage is of, for the help.
const LINEAGE_KINDS: &str = "\
Of an artifact it is the tree of everything that it descends from. Of a row it is a receipt: source, prompts, attempts
with what they cost, verdicts, gates, reviews, training data, runs that saw it, and evaluations.";

#[derive(Debug, ClapArgs)]
pub(crate) struct LineageArgs {
    /// An artifact by id, name, `name@vN`, `name:tag` or path; or the id of a row; with `--reached` also a source file.
    #[arg(value_name = "ARTIFACT|ROW")]
    pub(crate) name: String,
    /// The tree of what was made of the artifact, instead.
    #[arg(long)]
    pub(crate) children: bool,
    /// What it reached, instead: every artifact that was made with it, and how many of their rows go back to it.
    #[arg(long, conflicts_with = "children")]
    pub(crate) reached: bool,
    /// The artifact that holds the row, where several do.
    #[arg(long = "in", value_name = "ARTIFACT", conflicts_with = "children")]
    pub(crate) within: Option<String>,
}

/// The settings of feedback, for the help.
const FEEDBACK_KEYS: &str = "\
Inputs: evaluation (the newest), pool (the prompts that the data came from), sft_dataset, teacher_outputs.
Settings: target, max_clusters, examples, prompts_per_failure, seed; and of the new prompts inputs.max_inputs,
inputs.min_similarity, inputs.min_overlap, inputs.ngram_words, inputs.match_groups, inputs.evaluation_sets,
inputs.seed.";

#[derive(Debug, ClapArgs)]
pub(crate) struct FeedbackArgs {
    /// Only reports, and makes no new prompts.
    #[arg(long)]
    pub(crate) report_only: bool,
    /// The name of the new prompts; that of the prompts that they are drawn from where it is left out.
    #[arg(long, value_name = "NAME")]
    pub(crate) inputs_output: Option<String>,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GuardArgs {
    /// The rules, as `nexa inference --guard` takes them.
    pub(crate) rules: PathBuf,
    /// Texts (`text` or `prompt`) with a `label`: `unsafe` or `safe`; JSONL, CSV or Parquet.
    pub(crate) data: PathBuf,
    /// Exits with 1 where a smaller share of what should be blocked is caught.
    #[arg(long, value_name = "SHARE")]
    pub(crate) min_recall: Option<f64>,
    /// Exits with 1 where a larger share of what should not be blocked is.
    #[arg(long, value_name = "SHARE")]
    pub(crate) max_false_positives: Option<f64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measures training steps on tokens without a pattern: speed, memory, and where the time goes.
    Train(BenchTrainArgs),
    /// Measures training steps on a file of data, and prints them as JSON.
    Sft(BenchSftArgs),
    /// Measures how fast a model reads prompts and writes answers, and what memory would allow.
    Serve(BenchServeArgs),
    /// Measures the gates on the texts of a table, on one thread, and tells every verdict.
    Clean {
        /// The table.
        table: PathBuf,
    },
    /// Serves an imitation of a provider, to measure collecting against: `GET /stats` tells what it saw.
    #[command(hide = true)]
    Provider(BenchProviderArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchServeArgs {
    /// What is served.
    #[command(flatten)]
    pub(crate) model: ServedModelArgs,
    /// Tokens of a prompt.
    #[arg(long, default_value_t = 512)]
    pub(crate) prompt_tokens: usize,
    /// Tokens that are written after it.
    #[arg(long, default_value_t = 128)]
    pub(crate) new_tokens: usize,
    /// Answers that are written at the same time.
    #[arg(long, default_value_t = 1)]
    pub(crate) streams: usize,
    /// How often all is measured; medians are told.
    #[arg(long, default_value_t = 5)]
    pub(crate) repeats: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchProviderArgs {
    /// The port to listen on; 0 takes a free one, which is printed.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// How it behaves: `latency_ms=50`, `requests_per_second=100`, `tells_limits=true`, `faults.failing=0.1`.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchSftArgs {
    /// The folder of the model to go on from.
    #[arg(long)]
    pub(crate) model: PathBuf,
    /// The file of rows.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// An empty folder for the run.
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// Measured steps.
    #[arg(long, default_value_t = 5)]
    pub(crate) steps: u64,
    /// Samples of a step.
    #[arg(long, default_value_t = 8)]
    pub(crate) batch: usize,
    /// Settings of training.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchTrainArgs {
    /// The folder of a model whose shape is taken; that of SmolLM2-135M where it is left out. Weights are random.
    #[arg(long)]
    pub(crate) model: Option<PathBuf>,
    /// Tokens of a step.
    #[arg(long, default_value_t = 512)]
    pub(crate) tokens: usize,
    /// Sequences that they are cut into.
    #[arg(long, default_value_t = 1)]
    pub(crate) samples: usize,
    /// Measured steps.
    #[arg(long, default_value_t = 5)]
    pub(crate) steps: usize,
    /// Settings of training, such as `adapter=lora` or `gradient_checkpointing=true`.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    /// The folder of the demo's lab.
    #[arg(default_value = "nexa-demo")]
    pub(crate) folder: PathBuf,
    /// Overrides of the demo's pipeline: `stages.student.with.max_steps=100`.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// The pipeline file.
    pub(crate) pipeline: PathBuf,
    /// Prints what would be done, and does nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Makes a stage again even where it is up to date; may be given several times.
    #[arg(long, value_name = "STAGE")]
    pub(crate) force: Vec<String>,
    /// Stages that may run at the same time.
    #[arg(long, short, default_value_t = 2)]
    pub(crate) jobs: usize,
    /// Overrides of the file: `stages.train.with.max_steps=100`.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

/// Options of every command that runs one stage.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct StageArgs {
    /// A YAML file with the stage's configuration.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// An input: the artifact that plays a role. What is left out is the project's newest of its kind.
    #[arg(long = "in", value_name = "ROLE=ARTIFACT")]
    pub(crate) inputs: Vec<String>,
    /// The name of the artifact that is made.
    #[arg(long, value_name = "NAME")]
    pub(crate) output: Option<String>,
    /// Makes it again even where it is up to date.
    #[arg(long)]
    pub(crate) force: bool,
    /// Settings over those of the file: `learning_rate=3e-3`.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Whether the newest artifacts stand in for inputs that the stage can do without; where nothing is said, they do unless it
    /// reads files from outside the lab.
    #[arg(skip)]
    pub(crate) takes_newest: Option<bool>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TrainArgs {
    /// Proves resuming on this configuration instead: trains a few steps straight through, again with a process that
    /// is killed and started anew, and compares both to the bit.
    #[arg(long)]
    pub(crate) verify_resume: bool,
    /// Steps of each of these runs.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(4..))]
    pub(crate) verify_steps: u64,
    /// Breaks what the killed run restores, so that the comparison must fail.
    #[arg(long, hide = true, requires = "verify_resume")]
    pub(crate) break_restore: bool,
    /// Does a job of `--verify-resume`.
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) job: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Ingests raw files to a data set.
    Ingest(StageArgs),
    /// Removes rows that say the same as another, or nearly.
    #[command(
        after_help = "Settings: columns, near, min_similarity, mask_numbers, score_column, prefer, remove,\n\
        shingle_words, bands, rows_per_band, memory_limit_mib."
    )]
    Dedup(SiftArgs),
    /// Removes rows that hold what models are judged by.
    #[command(
        after_help = "Settings: evaluation_sets (else those of nexa.yaml), held_out, columns, min_overlap,\n\
        ngram_words, border_words, min_words."
    )]
    Decontaminate(SiftArgs),
    /// Gives every row to train, validation or test, and no group to two of them.
    #[command(after_help = "Settings: group_columns, validation_share, test_share, stratify_column, seed.")]
    Split(SiftArgs),
    /// Measures what the gates `gopher@1`, `c4@1` and `fineweb@1` judge by, and the language of each row.
    Score(StageArgs),
    /// Keeps the rows whose scores hold against the thresholds, and replaces personal data and secrets in them.
    Clean(StageArgs),
    /// Shows which rows other thresholds would keep or reject, from stored scores; nothing is written.
    Thresholds(ThresholdsArgs),
    /// Lists data sets.
    List,
    /// Shows rows of a data set.
    Show {
        /// An artifact: id, name or path.
        artifact: String,
        /// Which of its files; its main table where it is left out.
        #[arg(long)]
        file: Option<String>,
        /// Leaves out this many rows first.
        #[arg(long, default_value_t = 0)]
        offset: usize,
        /// Shows at most this many rows.
        #[arg(long, short = 'n', default_value_t = 10)]
        limit: usize,
        /// Only rows that hold this text.
        #[arg(long)]
        contains: Option<String>,
        /// Shows the facts of its manifest instead: schema, rows, hashes, parents, tags.
        #[arg(long, conflicts_with_all = ["file", "offset", "limit", "contains"])]
        facts: bool,
    },
    /// Tells which rows differ between two versions: added, removed, changed; and what differs in the columns.
    Diff(DiffArgs),
    /// Gives a version a tag, by which it can be named everywhere (`student:prod`); lists tags where none is given.
    Tag(TagArgs),
    /// Copies the files of a version into a folder, verified.
    Checkout {
        /// An artifact: id, name, `name@vN`, `name:tag` or path.
        artifact: String,
        /// The folder, which must be new or empty.
        folder: PathBuf,
    },
    /// Removes old versions that nothing needs, and what killed processes left; says what would go unless `--yes` is
    /// given.
    #[command(after_help = GC_KEEPS)]
    Gc(GcArgs),
    /// Hashes files and compares with the manifest.
    Verify {
        /// Artifacts; all of the project where none is named.
        artifacts: Vec<String>,
    },
    /// Shows a row as the tokens that a model is trained on, those that carry loss marked.
    Inspect(InspectArgs),
    /// Lengths of the text columns of a data set, and of its rows in a student's tokens.
    Stats(StatsArgs),
    /// Answers a question in SQL, over the data sets of the lab and over files.
    #[command(after_help = QUERY_NAMES)]
    Query(QueryArgs),
}

/// What can stand behind FROM, for the help.
const QUERY_NAMES: &str = "\
What can stand behind FROM:
  teacher_outputs                   the newest version; teacher_outputs_v1 is that one
  arithmetic_tutor.teacher_outputs  of another project
  filtered_v1.rejected              another table of a data set, here rejected.parquet
  'data/raw/x/*.jsonl'              files, absolute or relative to the lab: .jsonl, .csv (both also .gz, .zst), .parquet
  's3://bucket/rows/*.parquet'      objects, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL";

#[derive(Debug, ClapArgs)]
pub(crate) struct QueryArgs {
    /// The statement: `SELECT task, count(*) FROM teacher_outputs GROUP BY task`.
    pub(crate) sql: String,
    /// How the answer is written; a table for people where it is left out, or what the name of `--output` says.
    #[arg(long, value_enum)]
    pub(crate) format: Option<QueryFormat>,
    /// Keeps the answer in a file.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replaces that file where it is there.
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// The table shows at most this many rows; other formats have all.
    #[arg(long, short = 'n', default_value_t = 40)]
    pub(crate) limit: usize,
    /// Memory that sorts, groups and joins may take; half of the machine's where it is left out. Sorts and groups that
    /// need more go to disk.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) memory_limit: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueryFormat {
    Table,
    Csv,
    /// One list of objects.
    Json,
    /// One object a line.
    Jsonl,
    Parquet,
}

/// What a collection keeps, for the help.
const GC_KEEPS: &str = "\
Kept are the newest versions of each name, what is tagged, what people have reviewed, what a run at work or one that can
go on reads, and everything that something kept descends from. `retention: {keep_last: 5, older_than: 30d}` in nexa.yaml
sets the defaults. Of what is removed the manifest is kept, and `nexa lineage` still tells it.";

#[derive(Debug, ClapArgs)]
pub(crate) struct DiffArgs {
    /// The older version: id, name, `name@vN`, `name:tag` or path.
    pub(crate) before: String,
    /// The newer version.
    pub(crate) after: String,
    /// The columns that tell rows apart, together; `id`, or the first that is named like one, where it is left out.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(crate) key: Vec<String>,
    /// Compares rows as a whole: each is there so often, or it is not.
    #[arg(long, conflicts_with = "key")]
    pub(crate) whole_rows: bool,
    /// Columns that are left out: `--whole-rows --ignore id,source_file` compares what rows say, whatever file they
    /// came from and on whichever line.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(crate) ignore: Vec<String>,
    /// Which of their files; the main tables where it is left out.
    #[arg(long)]
    pub(crate) file: Option<String>,
    /// Shows at most this many rows of each kind.
    #[arg(long, short = 'n', default_value_t = 5)]
    pub(crate) limit: usize,
    /// Ends with code 1 where something differs.
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TagArgs {
    /// The version: id, `name@vN`, or a name for its newest; with `--delete` a name. All tags where it is left out.
    pub(crate) artifact: Option<String>,
    /// The tag: lowercase letters, digits, `_`, `-` and `.`.
    #[arg(requires = "artifact")]
    pub(crate) tag: Option<String>,
    /// Takes the tag from the version that has it.
    #[arg(long = "move", requires = "tag")]
    pub(crate) moves: bool,
    /// Takes the tag away.
    #[arg(long, requires = "tag", conflicts_with = "moves")]
    pub(crate) delete: bool,
    /// Gives the tag back to the version that had it before.
    #[arg(long, requires = "tag", conflicts_with_all = ["moves", "delete"])]
    pub(crate) rollback: bool,
    /// Only says whether the version shows what `promotion` of nexa.yaml asks for: 1 where it does not.
    #[arg(long, requires = "tag", conflicts_with_all = ["moves", "delete", "rollback"])]
    pub(crate) check: bool,
    /// Lists every change that was made, and by whom.
    #[arg(long, conflicts_with = "tag")]
    pub(crate) history: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GcArgs {
    /// So many of the newest versions of each name are kept.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_last: Option<u64>,
    /// What is younger is kept as well: `30d`, `12h`.
    #[arg(long, value_name = "AGE")]
    pub(crate) older_than: Option<Age>,
    /// Says what would go, and removes nothing; so it is without `--yes`, too.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Removes it.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Options of the commands that sift the rows of a table.
#[derive(Debug, ClapArgs)]
pub(crate) struct SiftArgs {
    /// The rows: an artifact by id, name or path; the project's newest data set where it is left out.
    #[arg(long, value_name = "ARTIFACT")]
    pub(crate) from: Option<String>,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ThresholdsArgs {
    /// Scores, or a cleaned data set, by id or name; the project's newest scores where it is left out.
    pub(crate) artifact: Option<String>,
    /// A threshold: `gopher.min_words=30`, `c4.min_sentences=null`, `language=[en]`.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Shows at most this many rows.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub(crate) limit: usize,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StatsArgs {
    /// An artifact: id, name or path.
    pub(crate) artifact: String,
    /// Which of its files; its main table where it is left out.
    #[arg(long)]
    pub(crate) file: Option<String>,
    /// Counts tokens with this tokenizer: a folder, or a tokenizer or checkpoint by id or name; the project's newest
    /// tokenizer where only the option stands.
    #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1)]
    pub(crate) tokenizer: Option<Option<String>>,
    /// The tokens that the student can take; those of the checkpoint, else `sequence_len`, where it is left out.
    #[arg(long, value_name = "N", requires = "tokenizer", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) context: Option<u64>,
    /// A training configuration, which says how rows are read.
    #[arg(long, short, value_name = "FILE", requires = "tokenizer")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// A file, or an artifact by id or name; the project's newest SFT data where it is left out.
    pub(crate) dataset: Option<String>,
    /// Which file of the artifact.
    #[arg(long, default_value = "train.jsonl")]
    pub(crate) file: String,
    /// The tokenizer: a folder, or a tokenizer or checkpoint by id or name; the project's newest tokenizer where it is
    /// left out.
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) tokenizer: Option<String>,
    /// Which row, from 1.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) row: u64,
    /// A training configuration.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Settings over those of the file: `train_on_eos=all`.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DistillCommand {
    /// Generates arithmetic word problems.
    Problems(StageArgs),
    /// Makes prompts for a teacher from a data set.
    Inputs(StageArgs),
    /// Collects a teacher's answers.
    Collect(CollectArgs),
    /// Has models judge answers by a rubric.
    Judge(StageArgs),
    /// Puts answers through the gates.
    Filter(StageArgs),
    /// Tells which rows other bounds of the gates would let through, from the scores that are there.
    Thresholds(BoundsArgs),
    /// Makes prompts of what was rejected, with what was wrong; with `--rounds` also collects and filters the answers.
    #[command(after_help = "Settings: template, max_attempts, skip_gates, only_unanswered, limit.")]
    Regenerate(RegenerateArgs),
    /// Lets a person accept, reject and edit answers: in the browser, or in the terminal.
    #[command(after_help = REVIEW_KEYS)]
    Review(ReviewArgs),
    /// Makes data of what reviewers decided: `require_review=true` leaves out what nobody has seen.
    ApplyReview(StageArgs),
    /// Packages accepted answers, or a data set, to SFT data.
    Package(StageArgs),
    /// Prints the card of SFT data, with what it cost.
    Card {
        /// An artifact: id, name or path; the project's newest SFT data where it is left out.
        artifact: Option<String>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RegenerateArgs {
    /// Goes on with the answers, collected, judged and filtered as the first ones were, and asks again for what is
    /// rejected: at most so many times, and until nothing is left.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,
    /// Another teacher for the rounds: `openai:gpt-4o`, `local:CHECKPOINT`.
    #[arg(long, value_name = "TEACHER", requires = "rounds")]
    pub(crate) teacher: Option<String>,
    /// The most that all rounds may spend on calls, in US dollars.
    #[arg(long, value_name = "USD", requires = "rounds")]
    pub(crate) max_cost: Option<f64>,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BoundsArgs {
    /// Filtered answers: an artifact by id, name or path; the project's newest where it is left out.
    pub(crate) artifact: Option<String>,
    /// A bound: `loop=0.3`; `length.max=2000` where a gate has two. May be given several times.
    #[arg(long = "set", value_name = "GATE=NUMBER")]
    pub(crate) changes: Vec<String>,
    /// Lists at most this many rows.
    #[arg(long, short = 'n', default_value_t = 20)]
    pub(crate) limit: usize,
}

/// The keys of the terminal, for the help.
const REVIEW_KEYS: &str = "\
With --terminal, one key each (where input is no terminal, one a line, with what follows the word):
  a  accept                r [REASON]  reject           e [TEXT]  edit ($VISUAL or $EDITOR; \\n is a new line)
  x [REASON]  regenerate   u  undo                      > <  next and previous row
  / [TEXT]  search         g [GATE]  rows of a gate     o  open rows only
  all accept|reject|regenerate COUNT  decides on every row that fits, if they are so many
  ?  help                  q  leave";

#[derive(Debug, ClapArgs)]
pub(crate) struct ReviewArgs {
    /// The answers: an artifact by id, name or path; the project's newest where it is left out.
    pub(crate) artifact: Option<String>,
    /// The same, as an option.
    #[arg(long = "src", value_name = "ARTIFACT", conflicts_with = "artifact", hide = true)]
    pub(crate) source: Option<String>,
    /// Who reviews: lowercase letters, digits and underscores; the user's name where it is left out.
    #[arg(long, value_name = "NAME")]
    pub(crate) reviewer: Option<String>,
    /// Reviews in the terminal.
    #[arg(long)]
    pub(crate) terminal: bool,
    /// The port of the page; 0 takes a free one.
    #[arg(long, short, default_value_t = 8501, conflicts_with = "terminal")]
    pub(crate) port: u16,
    /// Only prints the address of the page.
    #[arg(long, conflicts_with = "terminal")]
    pub(crate) no_browser: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CollectArgs {
    /// The teacher: `openrouter:openai/gpt-4o`, `openai:…`, `http://host:port/v1#model`, `local:CHECKPOINT`, `embedded`.
    #[arg(long)]
    pub(crate) teacher: Option<String>,
    /// The prompts: an artifact by id, name or path.
    #[arg(long, alias = "src", value_name = "ARTIFACT")]
    pub(crate) inputs_from: Option<String>,
    /// Asks only the first so many prompts.
    #[arg(long, alias = "max-samples", value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Spends at most this many US dollars.
    #[arg(long, value_name = "USD")]
    pub(crate) max_cost: Option<f64>,
    /// Uses at most this many tokens, prompts and answers together.
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u64>,
    /// Hands the calls in as batches, which are cheaper and take up to a day, and ends; run again, it collects them.
    #[arg(long)]
    pub(crate) batch: bool,
    /// Stops the batches that are with the provider; what it has answered is collected when this is run again.
    #[arg(long)]
    pub(crate) cancel_batches: bool,
    /// Asks nothing before the first call, whatever it may cost.
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenizerCommand {
    /// Trains a byte-level BPE on training data of any form.
    #[command(
        after_help = "Settings: vocab_size, and datasets=[{type: …, field_messages: …}], as in training, for other columns."
    )]
    Train(StageArgs),
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EvaluateArgs {
    #[command(subcommand)]
    pub(crate) command: Option<EvaluateCommand>,
    /// The checkpoint: an artifact by id, name or path.
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) checkpoint: Option<String>,
    /// A model behind an API instead: openai:gpt-4o-mini, http://host:port/v1#model, … Only tasks that generate can be
    /// asked. `calls.max_cost_usd=5` bounds what it may cost.
    #[arg(long, value_name = "PROVIDER:MODEL", conflicts_with_all = ["checkpoint", "compare", "evaluation"])]
    pub(crate) model: Option<String>,
    /// Compares evaluations by paired tests instead: artifacts, or checkpoints that were evaluated. Of two, item by item; of
    /// more, all others against the first, corrected over everything that is tested.
    #[arg(long, num_args = 2.., value_names = ["A", "B"], conflicts_with = "checkpoint")]
    pub(crate) compare: Option<Vec<String>>,
    /// Ends with exit code 1 where a metric is worse than that of this evaluation, or of the newest evaluation of this
    /// checkpoint that shares tasks, by paired tests that are corrected over all metrics.
    #[arg(long, value_name = "BASE", conflicts_with_all = ["compare", "list_tasks"])]
    pub(crate) fail_if_worse: Option<String>,
    /// Another evaluation of the same task, or a checkpoint that was evaluated by it: with `--stop-when-decided`.
    #[arg(long, value_name = "BASE", requires = "stop_when_decided")]
    pub(crate) versus: Option<String>,
    /// Asks documents in a drawn order and stops once it is decided whether the model is better or worse than that of
    /// `--versus`; wrong about two equally good ones with a chance of at most this; 0.05 where it is left out.
    #[arg(long, value_name = "RATE", num_args = 0..=1, require_equals = true, default_missing_value = "0.05")]
    #[arg(requires = "versus")]
    pub(crate) stop_when_decided: Option<f64>,
    /// Holds an evaluation against the base that is there already, by id, name or path, and evaluates nothing.
    #[arg(long, value_name = "EVALUATION", requires = "fail_if_worse", conflicts_with_all = ["checkpoint", "tasks"])]
    pub(crate) evaluation: Option<String>,
    /// What is measured: exact_match and perplexity over the held-out split, tasks, groups and tags by name, task files by
    /// path, and text:PATH for the perplexity of any text.
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    pub(crate) tasks: Vec<String>,
    /// Examples before each question, in the place of what the task says.
    #[arg(long, value_name = "N")]
    pub(crate) num_fewshot: Option<usize>,
    /// Takes the first documents of each task only: so many, or below 1 such a share.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<f64>,
    /// Writes prompts with the model's chat template.
    #[arg(long)]
    pub(crate) apply_chat_template: bool,
    /// Whether examples are turns of their own there.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) fewshot_as_multiturn: Option<bool>,
    /// What the model is told before everything.
    #[arg(long, value_name = "TEXT")]
    pub(crate) system_instruction: Option<String>,
    /// A folder of task files in the form of lm-evaluation-harness.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) include_path: Vec<PathBuf>,
    /// Where the documents of a task, group or data set lie: a file or a folder.
    #[arg(long, value_name = "TASK=PATH")]
    pub(crate) data: Vec<String>,
    /// Lists every task, group and tag that can be named.
    #[arg(long, conflicts_with_all = ["checkpoint", "compare"])]
    pub(crate) list_tasks: bool,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvaluateCommand {
    /// Explains item by item why the numbers of another tool differ from ours.
    Reconcile(ReconcileArgs),
    /// Writes an evaluation as one file of HTML that needs nothing else: metrics, charts, samples, verdicts.
    Report(EvaluateReportArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReconcileArgs {
    /// What the other tool wrote of a task: `samples_TASK_….jsonl` of lm-evaluation-harness.
    pub(crate) samples: PathBuf,
    /// Our evaluation, or a checkpoint that was evaluated; the newest evaluation where it is left out.
    #[arg(long, value_name = "EVALUATION")]
    pub(crate) evaluation: Option<String>,
    /// The task, where the name of the file does not tell it.
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EvaluateReportArgs {
    /// The evaluation, or the checkpoint whose newest one it is; else the newest of the project.
    pub(crate) evaluation: Option<String>,
    /// The file; named for the evaluation where it is left out.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The most samples that are shown: wrong answers first, every task in turn.
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(crate) samples: usize,
    /// Which of them are drawn.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LeaderboardArgs {
    /// Ranks by one task or group alone: `gsm8k`, `exact_match` of the held-out split.
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<String>,
    /// Ranks by this metric rather than the first of each task: `acc_norm`, `exact_match,flexible-extract`.
    #[arg(long, value_name = "METRIC")]
    pub(crate) metric: Option<String>,
    /// The form of what is printed; `--json` is the same as `--format json`.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: BoardFormat,
}

/// In which form a leaderboard is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BoardFormat {
    /// Tables for people.
    Table,
    /// One table, a row for each task and checkpoint.
    Csv,
    /// Everything.
    Json,
    /// Tables for a page.
    Markdown,
}

/// The settings of judging, for the help.
const JUDGE_KEYS: &str = "\
Judges are named as teachers are: `openai:gpt-4o`, `http://host:port/v1#model`, `local:CHECKPOINT`; `embedded` goes by rules.
Settings: protocol, rubric, judges, mode, show_reference, samples, temperature, max_tokens, top_logprobs, seed, limit,
stop_when_decided, max_unreadable_share, constrain, max_concurrent_requests, max_requests_per_minute, max_tokens_per_minute, max_retries,
timeout_s, max_cost_usd.";

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct JudgeArgs {
    #[command(subcommand)]
    pub(crate) command: Option<JudgeCommand>,
    #[command(flatten)]
    pub(crate) ask: JudgeAskArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct JudgeAskArgs {
    /// The evaluation whose answers are judged; the newest where neither this nor --outputs is given.
    #[arg(long, value_name = "EVALUATION")]
    pub(crate) evaluation: Option<String>,
    /// Another evaluation of the same items: judges compare the answers of both, in both orders.
    #[arg(long, value_name = "EVALUATION", requires = "evaluation")]
    pub(crate) versus: Option<String>,
    /// Answers of a teacher, instead.
    #[arg(long, value_name = "TEACHER_OUTPUTS", conflicts_with_all = ["evaluation", "versus"])]
    pub(crate) outputs: Option<String>,
    /// The judges; several are a jury.
    #[arg(long, value_name = "JUDGE", value_delimiter = ',')]
    pub(crate) judges: Vec<String>,
    /// The rubric: criteria with five levels, a checklist, or in the form of BiGGen-Bench.
    #[arg(long, value_name = "FILE", conflicts_with = "mt_bench")]
    pub(crate) rubric: Option<PathBuf>,
    /// Judges as MT-bench does, turn by turn, from 1 to 10.
    #[arg(long)]
    pub(crate) mt_bench: bool,
    /// Verdicts of each judge on each answer or pair.
    #[arg(long, value_name = "N")]
    pub(crate) samples: Option<u32>,
    /// Judges only the first so many items.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Stops asking once it is decided which of two models is better, and is wrong about two equally good ones with a
    /// chance of at most this; 0.05 where it is left out.
    #[arg(long, value_name = "RATE", num_args = 0..=1, require_equals = true, default_missing_value = "0.05")]
    #[arg(requires = "versus")]
    pub(crate) stop_when_decided: Option<f64>,
    /// Spends at most this many US dollars.
    #[arg(long, value_name = "USD")]
    pub(crate) max_cost: Option<f64>,
    /// Ends with exit code 1 where a mean score, of the whole or of a criterion, is below this; of two models, where the
    /// win rate of the first one is, from 0 to 1.
    #[arg(long, value_name = "SCORE")]
    pub(crate) fail_below: Option<f64>,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JudgeCommand {
    /// Tells what verdicts come to: scores, win rates, ratings, and how far judges can be trusted.
    Report(JudgeReportArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct JudgeReportArgs {
    /// The verdicts: artifacts by id, name or path; the newest where none is named. Pairs of several give one rating.
    pub(crate) verdicts: Vec<String>,
    /// All verdicts of the project.
    #[arg(long, conflicts_with = "verdicts")]
    pub(crate) all: bool,
    /// What people said of the same items: a table with `id` and `score` or `preference` (`first`, `second`, `tie`), and
    /// `task`, `model`, `other_model` and `other_id` where an id alone fits several items; or `review` for the decisions of
    /// reviewers.
    #[arg(long, value_name = "FILE|review")]
    pub(crate) labels: Option<PathBuf>,
    /// As in `nexa judge`.
    #[arg(long, value_name = "SCORE")]
    pub(crate) fail_below: Option<f64>,
    /// The seed of resampling.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

/// A model that answers, and how it is kept in memory.
#[derive(Debug, ClapArgs)]
pub(crate) struct ServedModelArgs {
    /// The checkpoint: a folder, a .gguf file, or an artifact by id or name.
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: Option<String>,
    /// The same, as an option.
    #[arg(
        long = "checkpoint",
        alias = "reference",
        value_name = "CHECKPOINT",
        conflicts_with = "checkpoint"
    )]
    pub(crate) checkpoint_option: Option<String>,
    /// Rounds the weights of a checkpoint to few bits as it is loaded: q8_0 or q4_0. A .gguf file is served in its own.
    #[arg(long, value_name = "FORMAT", value_parser = ["q8_0", "q4_0"])]
    pub(crate) quantize: Option<String>,
    /// The memory for keys and values of all requests together. Default 2GiB.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) kv_cache: Option<u64>,
    /// How exactly keys and values are kept. Default f32.
    #[arg(long, value_name = "TYPE", value_parser = ["f32", "f16"])]
    pub(crate) kv_cache_type: Option<String>,
    /// Does not keep the keys and values of prompts for those that begin the same.
    #[arg(long)]
    pub(crate) no_prefix_cache: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InferenceArgs {
    /// What is served.
    #[command(flatten)]
    pub(crate) model: ServedModelArgs,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, short, default_value_t = 8000)]
    pub(crate) port: u16,
    /// What computes: our own engine, or `vllm serve`, which is started on the checkpoint and stood before with the same keys
    /// and limits.
    #[arg(long, default_value = "native", value_parser = ["native", "vllm"])]
    pub(crate) engine: String,
    /// The program of `--engine vllm`.
    #[arg(long, value_name = "PATH", default_value = "vllm")]
    pub(crate) vllm: PathBuf,
    /// Further arguments of `vllm serve`, after `--`.
    #[arg(last = true, value_name = "VLLM ARGUMENT")]
    pub(crate) vllm_args: Vec<String>,
    /// Guesses so many tokens at a time from those before them; answers stay the same.
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    pub(crate) speculate: usize,
    /// Tokens of prompts that are read in one step, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub(crate) prefill_chunk: usize,
    /// Requests that are worked on at the same time.
    #[arg(long, default_value_t = 32)]
    pub(crate) max_batch: usize,
    /// Requests that may wait; further ones are refused with 429.
    #[arg(long, default_value_t = 256)]
    pub(crate) max_queued: usize,
    /// Tokens that the prompts of waiting requests may have together; a request that would add to more is refused with 429.
    #[arg(long, value_name = "TOKENS", default_value_t = 1 << 20)]
    pub(crate) max_queued_tokens: usize,
    /// Serves an adapter beside the model, as `NAME=PATH`: a folder in PEFT's form, or the checkpoint of a LoRA run; may be
    /// given several times.
    #[arg(long, value_name = "NAME=PATH")]
    pub(crate) lora: Vec<String>,
    /// Lets requests load adapters from below a folder, with `POST /v1/load_lora_adapter`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) lora_folder: Option<PathBuf>,
    /// Holds prompts and answers against the rules of a file: phrases, patterns, sensitive values. `docs/guardrails.md` shows one.
    #[arg(long, value_name = "FILE")]
    pub(crate) guard: Option<PathBuf>,
    /// Whom and how long the server answers.
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

/// Whom a server answers, and how long it bears with them.
#[derive(Debug, ClapArgs)]
pub(crate) struct AccessArgs {
    /// A file of keys, one a line, `#` before a comment; every request must bring one. `NEXA_API_KEY` is one more.
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Lets the pages of an origin, `https://host` or `*`, read replies; may be given several times.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) cors_origin: Vec<nexa_serve::Origin>,
    /// Another name under which the model answers; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) served_name: Vec<String>,
    /// The largest body of a request.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = crate::size::parse)]
    pub(crate) max_body: u64,
    /// Cancels a request that takes longer, and answers 504; 0 never does.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) request_timeout: u64,
    /// How long a client may take to send the header of a request, and then its body.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) read_timeout: u64,
    /// How long running requests may take to end after Ctrl-C or SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) drain_timeout: u64,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct UiArgs {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, short, default_value_t = 8501)]
    pub(crate) port: u16,
    /// An inference server to chat with; may be given several times. It is sent `NEXA_API_KEY`, where that is set.
    #[arg(long = "server", value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) servers: Vec<nexa_ui::ServerAddress>,
    /// Lets other machines see the lab, review in it, and chat with its servers, where the address is one that they
    /// reach. There is no login.
    #[arg(long)]
    pub(crate) open_to_network: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// Lists the runs of the lab, or of the project named.
    List,
    /// Shows a run.
    Show {
        /// The run's id.
        run: String,
    },
    /// Sends to trackers what a run that has ended did not deliver.
    Track {
        /// The run's id.
        run: String,
        /// Where to, if not where the run said: `report_to=mlflow mlflow.tracking_uri=http://127.0.0.1:5000`.
        #[arg(value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// Does a finished run again from its record, and tells whether it comes to the same bits.
    Reproduce {
        /// The run's id.
        run: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Architecture, size and hash of a checkpoint.
    Info {
        /// A folder, a `.gguf` file, or an artifact by id or name.
        checkpoint: String,
    },
    /// Takes a model from elsewhere into the lab, as a checkpoint.
    Import {
        /// A `.gguf` file, a folder of Hugging Face, or `hf:organisation/name`, perhaps with `@revision`.
        source: String,
        /// The name of the checkpoint; by default that of the file, folder or repository.
        #[arg(long, alias = "name", value_name = "NAME")]
        output: Option<String>,
        /// Makes it again even where it is up to date.
        #[arg(long)]
        force: bool,
    },
    /// Adds adapters to the weights of their base, as a new checkpoint.
    Merge {
        /// The model that the adapters correct: an artifact, a folder, a `.gguf` file or `hf:organisation/name`.
        #[arg(long, value_name = "REF")]
        base: String,
        /// A checkpoint that was trained with adapters, or a folder with `adapter_config.json` and
        /// `adapter_model.safetensors`.
        #[arg(long, value_name = "REF")]
        adapter: String,
        /// Merges into another model than the adapters say they were trained over, as long as the shapes fit.
        #[arg(long)]
        any_base: bool,
        /// The name of the checkpoint.
        #[arg(long, alias = "name", value_name = "NAME")]
        output: Option<String>,
        /// Makes it again even where it is up to date.
        #[arg(long)]
        force: bool,
    },
    /// Writes a checkpoint for other programs.
    Export {
        /// A folder, or an artifact by id or name.
        checkpoint: String,
        /// `gguf` is one file for llama.cpp, `safetensors` a folder for Hugging Face.
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// The numbers of a GGUF file.
        #[arg(long = "type", value_enum, default_value_t = ExportType::F16)]
        file_type: ExportType,
        /// The largest file of weights in a folder; what is larger is split. `GB` counts in thousands, `GiB` in 1024s.
        #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = crate::size::parse)]
        max_shard_size: u64,
        /// The file to write, or the folder, which must be new or empty.
        #[arg(long, value_name = "PATH")]
        output: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    Gguf,
    Safetensors,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportType {
    /// Half precision.
    F16,
    /// 8 bits, with a scale for 32 weights.
    #[value(name = "q8_0")]
    Q8_0,
}
