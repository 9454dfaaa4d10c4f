"""What the converters in datasets/ share: their common flags, and how bad input ends a script."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from absl import app, flags

from deeplab_tf.data.convert import Conversion, convert_samples
from deeplab_tf.data.workers import TaskRunner, run_tasks

FLAGS = flags.FLAGS

Main = Callable[[list[str]], None]


def define_flags(*, output_dir: str | None = "./tfrecord", num_shards: int = 4) -> None:
    """Defines the flags that `convert` reads, with a converter's own defaults."""
    flags.DEFINE_string(
        "output_dir", output_dir, "Folder to write the records to.", required=output_dir is None
    )
    flags.DEFINE_integer("num_shards", num_shards, "Number of files per split.", lower_bound=1)
    flags.DEFINE_integer(
        "num_workers",
        None,
        "Number of processes. Not given: one for each core, or one for less than 2000 images.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "beam_options",
        None,
        "Convert as an Apache Beam pipeline with these options, such as --beam_options='--runner="
        "FlinkRunner --flink_master=host:8081' (docs/data.md).",
    )
    flags.DEFINE_bool("overwrite", False, "Replace the records in an output folder that exists.")


def convert(splits: Mapping[str, Sequence[Any]], **description: Any) -> Conversion:
    """Converts as the common flags say and prints a summary; arguments as `convert_samples`."""
    conversion = convert_samples(
        splits,
        output_dir=FLAGS.output_dir,
        num_shards=FLAGS.num_shards,
        overwrite=FLAGS.overwrite,
        run=_runner(),
        **description,
    )
    print(conversion.summary())
    return conversion


def _runner() -> TaskRunner | None:
    """Who converts; None where no flag says so."""
    if FLAGS.beam_options is not None:
        if FLAGS.num_workers is not None:
            raise ValueError("--num_workers is for one machine; with --beam_options, Beam decides")
        from deeplab_tf.data.beam import run_on_beam

        options = shlex.split(FLAGS.beam_options)
        return partial(run_on_beam, options=options, folder=FLAGS.output_dir)
    if FLAGS.num_workers is not None:
        return partial(run_tasks, num_workers=FLAGS.num_workers)
    return None


def checked(main: Main) -> Main:
    """`main`, with bad input as a message without a traceback and an exit code that is not 0."""

    def checked_main(argv: list[str]) -> None:
        try:
            main(argv)
        except (ValueError, OSError, ImportError) as error:
            script = os.path.basename(argv[0]).removesuffix(".py")
            raise SystemExit(f"{script}: {error}") from None
        except KeyboardInterrupt:
            raise SystemExit("Stopped; the same command goes on from there.") from None

    return checked_main


def run(main: Main) -> None:
    """Parses the flags and runs a script."""
    app.run(checked(main))
