# Lists → LMDBs of Datum records, each by one job or, in shards, by many


rule lmdb_shard:
    input:
        list=f"{FOLD_DATA}/{{split}}.txt",
        lists=f"{FOLD_DATA}/lists.json",
        manifest=f"{DATA}/manifest.csv",
    output:
        lmdb=directory(shard_of("{split}", "{shard}") + "_lmdb"),
        info=shard_of("{split}", "{shard}") + "_lmdb.json",
        digests=shard_of("{split}", "{shard}") + ".txt",
    log:
        f"{FOLD}/logs/lmdb_{{split}}_{{shard}}.log",
    benchmark:
        f"{FOLD}/benchmarks/lmdb_{{split}}_{{shard}}.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: many_threads
    resources:
        mem_mb=memory(2000, kilobytes=0.5),
        runtime=minutes(20, seconds=0.1, jobs=SHARDS),
    params:
        settings=LMDB_SETTINGS,
        shard=lambda w: [int(w.shard), SHARDS],
        scratch=in_passing(SCRATCH),
        # Not an output: what was decoded before a change must outlive it.
        store=lambda w, output: f"{filled(FOLD_DATA, w)}/lmdb/{shards.name(w.split, w.shard, SHARDS)}",
    message:
        "Writing {output.lmdb}"
    script:
        "../scripts/lmdb.py"


if SHARDS == 1:

    use rule lmdb_shard as lmdb with:
        output:
            lmdb=directory(f"{FOLD_DATA}/{{split}}_lmdb"),
            info=f"{FOLD_DATA}/{{split}}_lmdb.json",
        log:
            f"{FOLD}/logs/lmdb_{{split}}.log",
        benchmark:
            f"{FOLD}/benchmarks/lmdb_{{split}}.tsv"
        params:
            settings=LMDB_SETTINGS,
            shard=in_passing([0, 1]),
            scratch=in_passing(SCRATCH),
            store=lambda w, output: f"{filled(FOLD_DATA, w)}/lmdb/{w.split}",

else:

    # Real Caffe reads one file; otherwise the shards are only named.
    MERGE = any(run["engine"] == "caffe" for run in RUNS.values())
    if not MERGE:

        localrules:
            join_lmdb,

    rule join_lmdb:
        input:
            lmdbs=[shard_of("{split}", i) + "_lmdb" for i in range(SHARDS)],
            digests=[shard_of("{split}", i) + ".txt" for i in range(SHARDS)],
        output:
            lmdb=directory(f"{FOLD_DATA}/{{split}}_lmdb"),
            info=f"{FOLD_DATA}/{{split}}_lmdb.json",
        log:
            f"{FOLD}/logs/lmdb_{{split}}.log",
        benchmark:
            f"{FOLD}/benchmarks/lmdb_{{split}}.tsv"
        conda:
            CONDA
        container:
            CONTAINER
        threads: 1
        resources:
            mem_mb=memory(2000),
            runtime=minutes(20, seconds=0.02),
        params:
            version=stages.LMDB,
            merge=MERGE,
        message:
            "Joining the shards of {output.lmdb}"
        script:
            "../scripts/join_lmdb.py"
