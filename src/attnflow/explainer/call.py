"""A call on one model: its requests, and the attributions of a batch of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from attnflow.attribution import Attribution
from attnflow.capture import product_rules
from attnflow.capture.weights import precision_of
from attnflow.explainer.attribution_builder import AttributionBuilder
from attnflow.explainer.call_progress import CallProgress
from attnflow.explainer.flows import solve_flows
from attnflow.explainer.memory.estimate import Batch, MemoryPlanner
from attnflow.explainer.memory.sizes import ExampleSize
from attnflow.explainer.model_passes import check_stage, run_model
from attnflow.explainer.options import CallOptions
from attnflow.explainer.request import Requests, make_requests
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.explainer.targets.output_space import SpaceOf
from attnflow.inputs.example import ModelInputs
from attnflow.inputs.given import Given


@dataclass(frozen=True)
class Call:
    """One call of an explainer, with all that its examples share.

    Attributes:
        inputs: The reader of its examples, with the model and its task.
        options: The options, with the defaults that suit the model.
        space_of: The output space of an example.
        shares_pass: True where one forward pass may read several examples.
        name: The name that results give to the model.
    """

    inputs: ModelInputs[Any]
    options: CallOptions
    space_of: SpaceOf
    shares_pass: bool
    name: str

    def requests(self, given: Given, explained: TargetOptions) -> Requests:
        """Read examples, and return a request for each decision about them.

        Raises:
            InputError, ModelError, StorageError: As `make_requests`.
        """
        requests = make_requests(self.inputs, given, explained, self.space_of)
        return requests.coarsened(self.options.coarsen, self.inputs.task)

    def plan(self, requests: Requests) -> list[Batch]:
        """Return batches of requests of similar length that fit into memory.

        Raises:
            InputError: A batch needs more than the call may take, or its flow more than is free.
        """
        options = self.options
        sizes = [ExampleSize.of(request.merged) for request in requests.requests]
        planner = MemoryPlanner(
            self.inputs.model,
            options.tensor,
            options.networks,
            keeps_edges=options.reads_edges,
            logits_read=requests.logits_read,
        )
        batch_size = options.batch_size if self.shares_pass else 1
        return planner.plan(sizes, batch_size, options.max_memory)

    def explain(
        self, requests: Requests, batch: Batch, progress: CallProgress | None = None
    ) -> list[Attribution]:
        """Return the attribution of each request of a batch.

        Raises:
            InputError, ModelError: As `run_model` and `check_stage`.
        """
        some = [requests.requests[i] for i in batch.indices]
        stages = run_model(self.inputs, some, self.options)
        if progress is not None:
            stages = progress.of_stages(stages)
        checked = map(partial(check_stage, self.inputs, requests, batch.indices), stages)
        flows = solve_flows(checked, some, self.options, self.inputs.task, batch.budget)
        return self._builder.build(some, flows)

    def explain_all(self, requests: Requests, progress: CallProgress) -> Sequence[Attribution]:
        """Return the attribution of each request, batch by batch.

        Raises:
            InputError, ModelError: As `plan` and `explain`.
        """
        # Batches are ordered by length, results by request.
        attributions: dict[int, Attribution] = {}
        for batch in self.plan(requests):
            found = self.explain(requests, batch, progress)
            attributions |= zip(batch.indices, found, strict=True)
            progress.batch_done(batch.indices)
        return [attributions[i] for i in range(len(requests))]

    @property
    def _builder(self) -> AttributionBuilder:
        model, options = self.inputs.model, self.options
        is_net = options.tensor == "net"
        pattern = product_rules(model, options.pattern).pattern if is_net else None
        task, precision = self.inputs.task, precision_of(model)
        return AttributionBuilder(task, self.name, options, precision, pattern)
