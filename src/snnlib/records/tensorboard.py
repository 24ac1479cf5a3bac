"""Curves of a run for TensorBoard."""

from collections.abc import Callable

from snnlib.checks import refuse
from snnlib.checks.files import StrPath, check_readable_name, check_writable, is_store, named_path
from snnlib.metrics import Epoch


def tensorboard_writer(log_dir: StrPath) -> Callable[[Epoch], None]:
    """Make an ``on_epoch_end`` callback that writes loss and accuracy for TensorBoard.

    Tags are ``training/loss``, ``training/accuracy``, ``test/accuracy`` and so on.
    Look at them with ``tensorboard --logdir LOG_DIR``. The folder is made with the
    first epoch; files are only added to it. A store that TensorBoard reaches by itself,
    as ``s3://bucket``, is opened at once, to see whether it can be.

    Raises:
        ValueError: ``log_dir`` is no folder, or no store, that can be written to.
    """
    from torch.utils.tensorboard import SummaryWriter

    writers: list[SummaryWriter] = []
    if is_store(log_dir):
        place = str(log_dir)
        try:
            writers.append(SummaryWriter(place))
        except Exception as error:  # each store has its own
            refuse("log_dir", "a store that TensorBoard can write to", place, str(error))
    else:
        folder = named_path("log_dir", log_dir, folder=True)
        check_readable_name("log_dir", folder)
        check_writable("log_dir", folder / "events.out.tfevents")
        place = str(folder)

    def write(epoch: Epoch) -> None:
        writer = writers[0] if writers else SummaryWriter(place)
        writers[:] = [writer]
        for name in ("training", *epoch.evaluation):
            writer.add_scalar(f"{name}/loss", epoch[name].loss, epoch.number)
            writer.add_scalar(f"{name}/accuracy", epoch[name].accuracy, epoch.number)
        writer.flush()

    return write
