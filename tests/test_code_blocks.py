"""What the pages show can be pasted: each block of code is one in its language. `tests/typing` checks the types of Python."""

import ast
import configparser
import json
import re
import subprocess

import pytest
import yaml
from code_blocks import all_blocks, in_language, is_excerpt, python_blocks, without_indentation

#: beside these, the blocks of Python, of which there is more below
LANGUAGES = {"", "text", "sh", "yaml", "toml", "json", "ini", "dockerfile", "jinja", "mermaid"}
#: no language, but a call of Sphinx
DIRECTIVE = re.compile(r"\{[\w-]+\}")
INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "ONBUILD", "RUN", "SHELL",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


def each(*languages):
    return pytest.mark.parametrize("block", in_language(*languages), ids=str)


def test_every_block_is_in_a_language_that_is_checked_here():
    for block in all_blocks():
        known = block.language in {*LANGUAGES, "python"} or DIRECTIVE.fullmatch(block.language)
        assert known, f"{block} is in {block.language!r}"


def test_most_blocks_of_python_are_excerpts_of_examples_and_the_rest_stands_for_itself():
    blocks = in_language("python")
    assert sum(map(is_excerpt, blocks)) > 20
    assert len(python_blocks()) > 10


@pytest.mark.parametrize("block", python_blocks(), ids=str)
def test_a_block_of_python_that_is_no_excerpt_is_whole(block):
    ast.parse(without_indentation(block), str(block))


@each("sh")
def test_a_block_for_the_shell_is_understood_by_it(block):
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@each("yaml")
def test_a_block_of_yaml_is_yaml(block):
    assert all(isinstance(document, dict) for document in yaml.safe_load_all(block.text))


@each("toml")
def test_a_block_of_toml_is_toml(block):
    tomllib = pytest.importorskip("tomllib", reason="part of Python since 3.11")
    assert tomllib.loads(block.text)


@each("json")
def test_a_block_of_json_is_json(block):
    json.loads(block.text)


@each("ini")
def test_a_block_of_airflows_configuration_is_read_and_what_is_json_in_it_too(block):
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(block.text)
    values = [value for section in settings.sections() for value in settings[section].values()]
    assert values
    for value in values:
        if value.startswith(("[", "{")):
            json.loads(value)


@each("dockerfile")
def test_a_dockerfile_begins_with_an_image_and_holds_instructions_alone(block):
    lines = re.sub(r"\\\n", " ", block.text).splitlines()
    words = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    assert words[0] in {"FROM", "ARG"}
    assert "FROM" in words
    assert set(words) <= INSTRUCTIONS
