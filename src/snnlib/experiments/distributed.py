"""One run shared by several processes: each answers its part of every batch.

``torchrun`` starts the processes and numbers them; here they join. Every process
draws the same shuffled batches as a run alone would, and takes its share of
each. Two sums over the processes make the shares one batch again:

1. The rates, ``[N, 10]`` and small, go round before the loss. So every process
   computes the loss and the correct predictions of the whole batch: any loss, be it a mean or
   a sum, and a last batch of any size come out as in one process.
2. After the backward pass each process holds the gradient that flows through its
   own images. These are added up in one flat bucket, and every process takes
   the same step.

Why not torch's DistributedDataParallel? It works by hooks on the forward pass of
the network it wraps, which most engines never call: they read the weights and
compute by themselves. It also averages gradients, which is right for mean losses
and equal shares only. The bucket says in ten lines what happens.

BatchNorm is the one exception to "as in one process": each process normalises
by the mean and variance of its own share, as torch's wrapper would have it too.
The running statistics are averaged over the processes after every batch, so
that all of them evaluate, and store, the same network.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """The processes of a run, seen from one of them; by default a run alone.

    ``rank`` counts all ``size`` processes from 0, ``local_rank`` those of this
    machine. Process 0 leads: it alone writes files and speaks.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, n_images: int) -> slice:
        """Our part of a batch; the parts of all processes are disjoint and make the whole.

        Their sizes differ by one at most, the larger ones first; in a batch smaller
        than the group the last parts are empty.
        """
        small, n_larger = divmod(n_images, self.size)
        first = self.rank * small + min(self.rank, n_larger)
        return slice(first, first + small + (self.rank < n_larger))

    def device(self, name: str) -> str:
        """The device of this process: on GPUs, the one of its number on the machine.

        Raises:
            ValueError: ``name`` is one GPU for all processes.
        """
        if self.size == 1 or name == "cpu" or not torch.cuda.is_available():
            return name
        if name not in ("auto", "cuda"):
            raise ValueError(
                f"device must be auto, cpu or cuda where {self.size} processes share a run, "
                f"got {name!r}"
            )
        return f"cuda:{self.local_rank}"

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse a batch that does not divide into equal shares."""
        if batch_size % self.size:
            raise ValueError(
                f"batch_size must be divisible by the number of processes, {self.size}, "
                f"got {batch_size}"
            )

    def gather(self, own: Tensor, n_images: int) -> Tensor:
        """Join the answers of all processes to those of the whole batch.

        Args:
            own: Answers to our :meth:`share`, ``[n, K]``.
            n_images: Size of the whole batch, N.

        Returns:
            ``[N, K]``, at least float32, differentiable in ``own`` alone.
        """
        if self.size == 1:
            return own
        part = self.share(n_images)
        own = own.to(torch.promote_types(own.dtype, torch.float32))
        whole = own.new_zeros(n_images, *own.shape[1:])
        whole[part] = own.detach()
        self._add_up(whole)  # all others add zeros here, so nothing is rounded
        return torch.cat([whole[: part.start], own, whole[part.stop :]])

    def combine(self, network: nn.Module) -> None:
        """Add up the gradients of all processes, and average running statistics.

        To be called between the backward pass and the optimizer's step.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        tensors = [*gradients, *(buffer.div_(self.size) for buffer in statistics)]
        bucket = torch.cat([tensor.flatten() for tensor in tensors])
        self._add_up(bucket)
        for tensor, total in zip(tensors, bucket.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def from_leader(self, value: Any) -> Any:
        """The value that process 0 passed in, in every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def start_alike(self, network: nn.Module) -> None:
        """Give every process the weights of process 0."""
        if self.size > 1:
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, src=0)

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """A block that fails in every process if it fails in one, instead of leaving some waiting.

        The block must not itself wait for other processes.

        Raises:
            ValueError: With the same sentence in every process.
        """
        if self.size == 1:
            yield
            return
        problem = ""
        try:
            yield
        except (ValueError, OSError) as error:
            problem = str(error)
        problems: list[Any] = [None] * self.size
        dist.all_gather_object(problems, problem)
        for rank, text in enumerate(problems):
            if text:
                raise ValueError(text if rank == 0 else f"process {rank} of {self.size}: {text}")

    def _add_up(self, tensor: Tensor) -> None:
        """Replace a tensor, of equal shape in all processes, by its sum over them."""
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise ConnectionError(
                f"process {self.rank} of {self.size} lost another process of this run, "
                "which says itself why it ended"
            ) from error


@contextmanager
def joined(device: str = "auto") -> Iterator[Group]:
    """Join the processes that ``torchrun`` started, for as long as the block lasts.

    They talk by gloo on CPUs and by nccl on GPUs. Without ``torchrun`` the group
    is one process and nothing is joined.

    Args:
        device: As in the settings of a run: ``auto``, ``cpu``, ``cuda``.

    Raises:
        ValueError: There are more processes on this machine than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    group = Group(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(_backend(device, group.local_rank), rank=group.rank, world_size=size)
    yield group
    # Not after an error: to say goodbye to a process that is gone may take for ever.
    dist.destroy_process_group()


def _backend(device: str, local_rank: int) -> str:
    """gloo for tensors on CPUs; beside it nccl where each process has a GPU of its own."""
    if device == "cpu" or not torch.cuda.is_available():
        return "gloo"
    n_processes, n_gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if n_processes > n_gpus:
        raise ValueError(
            f"--nproc-per-node must be at most {n_gpus}, one process for each GPU, "
            f"got {n_processes}; or train with --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return "cpu:gloo,cuda:nccl"
