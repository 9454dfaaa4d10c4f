"""docs/systems.md: its tables are the code's, its commands describe runs, nothing is left out."""

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

from deeplab_tf.model_info import model_info
from deeplab_tf.presets import PRESETS, RECIPES
from tests import tiny_run
from tests.test_cli import run

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "systems.md").read_text(encoding="utf-8")

# Built by `make test`; the others take up to five seconds each.
QUICK_NETWORKS = {
    "deeplabv1_vgg16_largefov",
    "deeplabv2_vgg16_aspp_l",
    "deeplabv3_mobilenet_v2",
}
QUICK_RUNS = {"my/v1", "my/v3plus_small"}


def tables(first_column):
    """The rows, as cells by column, of all tables whose first column has this name."""
    rows, columns = [], None
    for line in PAGE.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            columns = None
        elif columns is None:
            columns = cells
        elif columns[0] == first_column and not set(line) <= set("|-:"):
            rows.append(dict(zip(columns, cells, strict=True)))
    return rows


def commands():
    """The training commands, by their folder."""
    found = re.findall(r"^    (python train\.py .*--train_logdir=my/.*)$", _one_line(PAGE), re.M)
    return {re.search(r"--train_logdir=(\S+)", command)[1]: command for command in found}


def _one_line(text):
    return re.sub(r" *\\\n *", " ", text)


ROWS = {row["preset"]: row for row in tables("preset")}
RECIPE_ROWS = {row["recipe"].removeprefix("--recipe="): row for row in tables("recipe")}


def test_every_preset_and_every_recipe_has_one_row():
    assert sorted(row["preset"] for row in tables("preset")) == sorted(PRESETS)
    assert sorted(RECIPE_ROWS) == sorted(RECIPES)
    assert len(tables("recipe")) == len(RECIPES)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset(name):
    model = PRESETS[name].model
    rates = [", ".join(map(str, model.atrous_rates))] if model.atrous_rates else []
    grid = ", ".join(map(str, model.multi_grid))
    row = ROWS[name]
    assert row["encoder"] == model.model_variant
    assert row["output stride"] == str(model.output_stride)
    assert row["rates"] == ("; ".join(rates + [f"multi-grid {grid}"] * bool(grid)) or "-")
    assert row["parameters"] == f"{PRESETS[name].parameters:,}"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK_NETWORKS else pytest.mark.slow)
        for name in PRESETS
    ],
)
def test_a_network_is_as_large_as_its_row_says(name):
    side = 321 if name.startswith(("deeplabv1", "deeplabv2")) else 513
    info = model_info(PRESETS[name].model, (side, side))
    assert ROWS[name]["parameters"] == f"{info.parameters:,}"
    assert ROWS[name]["Multiply-Adds"] == f"{info.multiply_adds / 1e9:.3f}B"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe(name):
    recipe, row = RECIPES[name], RECIPE_ROWS[name]
    before, data, train = recipe.mean_iou_before_crf, recipe.data, recipe.train
    assert row["mIoU"] == f"{recipe.mean_iou:.2f}"
    assert row["mIoU before the CRF"] == ("-" if before is None else f"{before:.2f}")
    assert row["crop, batch, steps, rate"] == (
        f"{data.crop_size[0]}, {data.batch_size}, {train.training_number_of_steps:,}, "
        f"{train.learning_policy} {train.base_learning_rate:g}"
    )
    assert row["weights"] == (recipe.initial_checkpoint or "-")
    for table in re.findall(r"Table \d+", row["row of the paper"]):
        assert f"{table}," in f"{recipe.source},"


@pytest.mark.parametrize(
    "logdir",
    [
        pytest.param(logdir, marks=[] if logdir in QUICK_RUNS else pytest.mark.slow)
        for logdir in commands()
    ],
)
def test_a_command_describes_a_run_without_a_warning(logdir, tmp_path):
    tiny_run.write_dataset(tmp_path / "records")
    command = commands()[logdir].replace("my/records", str(tmp_path / "records"))
    _, script, *flags = shlex.split(command)
    done = run(script, *flags, "--dry_run")
    assert done.code == 0, done.err
    # That of batch norm over few images belongs to a small batch.
    assert [line for line in done.err.splitlines() if "batch norm takes its" not in line] == []
    assert "train of blocks, 6 images, 3 classes" in done.out


def test_the_quick_ones_are_there():
    assert set(PRESETS) >= QUICK_NETWORKS
    assert set(commands()) >= QUICK_RUNS
    assert len(commands()) == 7


def test_figures_are_pictures_on_white():
    """Readable in GitHub's light and dark mode, and all that lies there is shown."""
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE)
    assert sorted(shown) == sorted(f"figures/{path.name}" for path in DOCS.glob("figures/*"))
    for path in shown:
        card = ElementTree.parse(DOCS / path).getroot().find("{http://www.w3.org/2000/svg}rect")
        assert card.get("fill") == "#ffffff"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http|#)[^)]+)\)", PAGE))))
def test_what_the_page_links_to_exists(path):
    assert (DOCS / path).exists()
