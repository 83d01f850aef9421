"""The questions: in SQL for ours and DuckDB, in pandas for pandas. Files are in the current folder."""

ANSWERS, PROMPTS, LINES = "answers.parquet", "prompts.parquet", "answers.jsonl"

SQL = {
    "filter and count": f"""
        SELECT count(*) AS n, avg(tokens) AS mean FROM '{ANSWERS}' WHERE finish_reason = 'stop' AND score > 4""",
    "group by task and model": f"""
        SELECT task, model, count(*) AS n, avg(score) AS score, sum(tokens) AS tokens, max(score) AS best
        FROM '{ANSWERS}' GROUP BY task, model ORDER BY task, model""",
    "longest answers": f"""
        SELECT id, length(answer) AS letters FROM '{ANSWERS}' ORDER BY letters DESC, id LIMIT 20""",
    "answers joined with prompts": f"""
        SELECT p.domain, count(*) AS n, avg(a.score) AS score
        FROM '{ANSWERS}' a JOIN '{PROMPTS}' p ON a.prompt_id = p.prompt_id GROUP BY p.domain ORDER BY p.domain""",
    "text that holds a phrase": f"""
        SELECT task, count(*) AS n FROM '{ANSWERS}' WHERE answer LIKE '%therefore it%' GROUP BY task ORDER BY task""",
    "distinct and median": f"""
        SELECT task, count(DISTINCT prompt_id) AS prompts, median(tokens) AS median FROM '{ANSWERS}'
        GROUP BY task ORDER BY task""",
    "group lines of JSON": f"""
        SELECT task, count(*) AS n, avg(score) AS score FROM '{LINES}' GROUP BY task ORDER BY task""",
}


def pandas_answer(name):
    import pandas

    def read(*columns):
        return pandas.read_parquet(ANSWERS, columns=list(columns))

    match name:
        case "filter and count":
            rows = read("finish_reason", "score", "tokens")
            rows = rows[(rows.finish_reason == "stop") & (rows.score > 4)]
            return [(len(rows), rows.tokens.mean())]
        case "group by task and model":
            groups = read("task", "model", "score", "tokens").groupby(["task", "model"])
            found = groups.agg(n=("score", "size"), s=("score", "mean"), t=("tokens", "sum"), b=("score", "max"))
            return list(found.reset_index().itertuples(index=False, name=None))
        case "longest answers":
            rows = read("id", "answer")
            rows = rows.assign(letters=rows.answer.str.len())[["id", "letters"]]
            rows = rows.sort_values(["letters", "id"], ascending=[False, True]).head(20)
            return list(rows.itertuples(index=False, name=None))
        case "answers joined with prompts":
            prompts = pandas.read_parquet(PROMPTS, columns=["prompt_id", "domain"])
            groups = read("prompt_id", "score").merge(prompts, on="prompt_id").groupby("domain")
            found = groups.agg(n=("score", "size"), s=("score", "mean"))
            return list(found.reset_index().itertuples(index=False, name=None))
        case "text that holds a phrase":
            rows = read("task", "answer")
            found = rows[rows.answer.str.contains("therefore it", regex=False)].groupby("task").size()
            return list(found.reset_index().itertuples(index=False, name=None))
        case "distinct and median":
            groups = read("task", "prompt_id", "tokens").groupby("task")
            found = groups.agg(p=("prompt_id", "nunique"), m=("tokens", "median"))
            return list(found.reset_index().itertuples(index=False, name=None))
        case "group lines of JSON":
            groups = pandas.read_json(LINES, lines=True).groupby("task")
            found = groups.agg(n=("score", "size"), s=("score", "mean"))
            return list(found.reset_index().itertuples(index=False, name=None))
    raise KeyError(name)
