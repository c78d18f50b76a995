"""The README says what the code does. `python tests/test_readme.py` prints the tables of options for it."""

import re
from pathlib import Path

import pytest

from streamcluster import cli, config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
JOBS = {
    "ingest": config.IngestSettings,
    "fit": config.FitSettings,
    "export": config.ExportSettings,
    "duplicates": config.DuplicatesSettings,
    "junk": config.JunkSettings,
    "mark": config.MarkSettings,
    "plot": config.PlotSettings,
    "report": config.ReportSettings,
    "status": config.StatusSettings,
    "demo": config.DemoSettings,
}


def rows_of(model):
    """Return a table row for each option of a command."""
    for option in cli.options_of(model):
        name = option.metavar if option.is_argument else f"{option.flag} {option.metavar}".strip()
        yield f"| `{name.replace('|', ' / ')}` | {option.help} | {option.default} |"


@pytest.mark.parametrize("job", JOBS)
def test_every_option_is_in_its_table_as_it_is(job):
    table = README.split(f"### `streamcluster {job}`")[1].split("###")[0]
    assert re.findall(r"^\| `.*\|$", table, flags=re.MULTILINE) == list(rows_of(JOBS[job]))


def test_every_link_into_the_project_leads_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_settings_file_that_is_shown_is_one():
    settings = config.run_settings(str(ROOT / "configs" / "faces.toml"))
    assert settings.export is not None
    assert settings.ingest.store == settings.fit.store == settings.export.store


if __name__ == "__main__":
    for name, settings_model in JOBS.items():
        print(f"### `streamcluster {name}`\n\n| option | meaning | default |\n|---|---|---|")
        print("\n".join(rows_of(settings_model)), end="\n\n")
