"""Models that a person brings: right against NumPy, fed as they state or as options say, and clear in refusal."""

import pickle
import sys

import models
import numpy as np
import pytest
from onnx import TensorProto, helper

from streamcluster.errors import BudgetError, ModelError, SettingsError
from streamcluster.learn.embedding import ModelOptions, open_model

GIB = 1 << 30


def options(**changes):
    return ModelOptions(
        **{"size": None, "layout": None, "mean": models.MEAN, "std": models.STD, "output": None} | changes
    )


def opened(path, memory=4 * GIB, **changes):
    return open_model(str(path), options(**changes), memory)


def pictures(n, height=32, width=32, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("output", ["rows", "map", "positions"])
@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_rows_are_what_numpy_computes(tmp_path, layout, output, batch):
    model = opened(models.save_model(tmp_path / "m.onnx", layout=layout, output=output, batch=batch))
    assert (model.preparation.layout, model.preparation.batch) == (layout, 1 if batch == "n" else batch)
    shown = pictures(7)
    rows = model.embed(shown)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, models.expected(shown), rtol=1e-4, atol=1e-4)


def test_a_picture_has_the_same_bytes_whoever_its_neighbours_are(tmp_path):
    model = opened(models.save_model(tmp_path / "m.onnx"))
    shown = pictures(9)
    alone = np.concatenate([model.embed(shown[i : i + 1]) for i in range(9)])
    np.testing.assert_array_equal(model.embed(shown), alone)


def test_mean_and_std_are_those_that_were_given(tmp_path):
    mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 0.5)
    model = opened(models.save_model(tmp_path / "m.onnx"), mean=mean, std=std)
    np.testing.assert_allclose(
        model.embed(pictures(3)), models.expected(pictures(3), mean=mean, std=std), rtol=1e-4, atol=1e-4
    )


def test_half_precision(tmp_path):
    model = opened(models.save_model(tmp_path / "m.onnx", kind=TensorProto.FLOAT16))
    rows = model.embed(pictures(3))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, models.expected(pictures(3)), rtol=0.02, atol=0.05)


def test_a_model_may_take_pictures_that_are_not_square(tmp_path):
    model = opened(models.save_model(tmp_path / "m.onnx", size=(48, 24)))
    assert (model.preparation.height, model.preparation.width, model.preparation.side) == (48, 24, 48)
    np.testing.assert_allclose(
        model.embed(pictures(2, 48, 24)), models.expected(pictures(2, 48, 24)), rtol=1e-4, atol=1e-4
    )


def test_any_size_is_the_one_that_was_asked_for(tmp_path):
    path = models.save_model(tmp_path / "m.onnx", size=None)
    assert opened(path, size=40).preparation.side == 40
    with pytest.raises(SettingsError, match="--onnx-size"):
        opened(path)


def test_a_layout_that_nobody_states_is_asked_for(tmp_path):
    path = models.save_model(tmp_path / "m.onnx", size=None, channels="c")
    assert opened(path, size=32, layout="nchw").preparation.layout == "nchw"
    with pytest.raises(SettingsError, match="--onnx-layout"):
        opened(path, size=32)


@pytest.mark.parametrize("changes", [{"size": 64}, {"layout": "nhwc"}, {"output": "other"}])
def test_options_that_contradict_the_model_are_refused(tmp_path, changes):
    path = models.save_model(tmp_path / "m.onnx")
    (name,) = changes
    with pytest.raises(SettingsError, match=f"--onnx-{name}"):
        opened(path, **changes)
    assert opened(path, size=32, layout="nchw", output="given").preparation == opened(path).preparation


def integers(path):
    cast = helper.make_node("Cast", ["given"], ["extra"], to=TensorProto.INT64)
    return models.save_model(path, extra=[cast], extra_kind=TensorProto.INT64)


def flat(path):
    return models.save_model(path, extra=[helper.make_node("ReduceSum", ["given"], ["extra"], keepdims=0)])


def undefined(path):
    nodes = [
        helper.make_node("Sub", ["given", "given"], ["zero"]),
        helper.make_node("Div", ["zero", "zero"], ["extra"]),
    ]
    return models.save_model(path, extra=nodes)


@pytest.mark.parametrize(
    ("make", "said"),
    [(integers, "int64"), (flat, r"shape \[\]"), (undefined, "not finite")],
)
def test_outputs_that_are_no_embeddings_are_refused(tmp_path, make, said):
    model = opened(make(tmp_path / "m.onnx"), output="extra")
    with pytest.raises(ModelError, match=said):
        model.try_out()
    assert opened(tmp_path / "m.onnx").try_out()[0] == models.WIDTH


def two_inputs(path):
    shape = ["n", 3, 32, 32]
    inputs = [("a", TensorProto.FLOAT, shape), ("b", TensorProto.FLOAT, shape)]
    return models.save(path, [helper.make_node("Add", ["a", "b"], ["c"])], inputs, [("c", TensorProto.FLOAT, None)])


def of_shape(*shape, kind=TensorProto.FLOAT):
    def make(path):
        node = helper.make_node("Identity", ["a"], ["b"])
        return models.save(path, [node], [("a", kind, list(shape))], [("b", kind, None)])

    return make


def no_model(path):
    path.write_bytes(b"no model")
    return str(path)


def empty(path):
    path.write_bytes(b"")
    return str(path)


def missing(path):
    return str(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (two_inputs, "2 inputs"),
        (of_shape("n", 100), "2 dimensions"),
        (of_shape("n", 1, 32, 32), "RGB"),
        (of_shape("n", 3, 32, 32, kind=TensorProto.INT32), "int32"),
        (no_model, "no ONNX model"),
        (empty, "no ONNX model"),
        (missing, "no such file"),
    ],
)
def test_files_that_are_no_embedding_models_are_refused_in_one_line(tmp_path, make, said):
    with pytest.raises(ModelError, match=said) as refused:
        opened(make(tmp_path / "m.onnx"))
    assert "\n" not in str(refused.value)


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    path = models.save_model(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"streamcluster\[onnx\]"):
        opened(path)


def test_a_model_that_the_budget_has_no_room_for_is_not_loaded(tmp_path, monkeypatch):
    path = models.save_model(tmp_path / "m.onnx")
    with (tmp_path / "m.onnx.data").open("wb") as file:
        file.truncate(8 * GIB)
    with pytest.raises(BudgetError, match="--memory"):
        opened(path)


def test_the_name_is_that_of_the_bytes_and_of_how_they_are_fed(tmp_path):
    path = models.save_model(tmp_path / "m.onnx")
    names = {opened(path).name, opened(path, mean=(0.0, 0.0, 0.0)).name, opened(path, std=(1.0, 1.0, 1.0)).name}
    (tmp_path / "moved.onnx").write_bytes((tmp_path / "m.onnx").read_bytes())
    assert opened(tmp_path / "moved.onnx").name in names
    names.add(opened(models.save_model(tmp_path / "m.onnx", seed=1)).name)
    (tmp_path / "m.onnx.data").write_bytes(b"weights")
    names.add(opened(path).name)
    assert len(names) == 5


def test_a_copy_in_another_process_loads_the_same_file_or_none(tmp_path):
    path = models.save_model(tmp_path / "m.onnx")
    model = opened(path)
    sent = pickle.dumps(model)
    np.testing.assert_array_equal(pickle.loads(sent).embed(pictures(2)), model.embed(pictures(2)))
    models.save_model(tmp_path / "m.onnx", seed=1)
    with pytest.raises(ModelError, match="another model"):
        pickle.loads(sent).embed(pictures(2))
