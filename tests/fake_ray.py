"""The few calls of Ray that a crew makes, all in this process: nothing starts, and faults obey."""

from collections import deque
from types import SimpleNamespace


class FakeError(Exception):
    """What Ray raises when something is gone."""


class Ref:
    """An answer that is not there yet."""

    def __init__(self, actor=None, call=None, value=None):
        self.actor, self.call, self.value = actor, call, value

    def done(self):
        return self.call is None


class Actor:
    """An actor: its calls are done one after the other, when somebody waits for them."""

    def __init__(self, ray, made, node):
        self._ray, self._made, self.node = ray, made, node
        self._it, self.waiting = None, deque()
        self.dead = self.hangs = False

    def __getattr__(self, name):
        def remote(*args):
            ref = Ref(self, (name, args))
            self.waiting.append(ref)
            return ref

        return SimpleNamespace(remote=remote)

    def step(self):
        """Do the next call."""
        ref = self.waiting.popleft()
        (name, args), ref.call = ref.call, None
        self._ray.running = self
        if self.dead:
            ref.value = FakeError("The actor died")
            return
        try:
            self._it = self._it or self._made()
            ref.value = getattr(self._it, name)(*map(self._ray.get_if, args))
        except Exception as error:
            ref.value = FakeError("task failed")
            ref.value.cause = error


class FakeRay:
    """A cluster of nodes with so many processors each.

    Attributes:
        actors: All that were made, dead or not.
        groups: Placement groups that are reserved.
        on_ask: Called before a part is done, with its actor: to let it die.
    """

    def __init__(self, *cpus):
        self.cpus, self.actors, self.groups = list(cpus), [], []
        self.cancelled, self.running, self.on_ask = [], None, lambda actor: None
        self.exceptions = SimpleNamespace(RayError=FakeError)
        strategies = SimpleNamespace(PlacementGroupSchedulingStrategy=lambda group, **_: group)
        self.util = SimpleNamespace(
            placement_group=self._group,
            placement_group_table=lambda group: {"state": "CREATED" if group.node else "PENDING"},
            remove_placement_group=self.groups.remove,
            scheduling_strategies=strategies,
            get_node_ip_address=lambda: f"10.0.0.{self.running.node}",
        )

    def is_initialized(self):
        return True

    def nodes(self):
        return [
            {"Alive": True, "NodeID": f"n{n}", "Resources": {"CPU": float(cpus)}}
            for n, cpus in enumerate(self.cpus, 1)
        ]

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: f"n{self.running.node}")

    def _group(self, bundles):
        room = [n for n, cpus in enumerate(self.cpus, 1) for _ in range(cpus)]
        taken = [group.node for group in self.groups]
        for node in taken:
            if node in room:
                room.remove(node)
        node = room[0] if room else 0
        group = SimpleNamespace(node=node)
        self.groups.append(group)
        return group

    def remote(self, kind):
        def options(scheduling_strategy, **_):
            def remote(*args):
                node = scheduling_strategy.node
                self.actors.append(Actor(self, lambda: kind(*args), node))
                self.actors[-1].hangs = not node  # it waits for room
                return self.actors[-1]

            return SimpleNamespace(remote=remote)

        return SimpleNamespace(options=options)

    def put(self, value):
        return Ref(value=value)

    def get(self, ref):
        if isinstance(ref.value, FakeError):
            raise ref.value
        return ref.value

    def get_if(self, value):
        return self.get(value) if isinstance(value, Ref) else value

    def wait(self, refs, num_returns, timeout):
        for actor in {id(ref.actor): ref.actor for ref in refs}.values():
            if actor.waiting and not actor.hangs and not any(ref.done() for ref in refs):
                if actor.waiting[0].call[0] == "ask":
                    self.on_ask(actor)
                if not actor.hangs:
                    actor.step()
        done = [ref for ref in refs if ref.done()]
        return done[:num_returns], [ref for ref in refs if ref not in done[:num_returns]]

    def kill(self, actor):
        actor.dead = True

    def cancel(self, ref):
        self.cancelled.append(ref)
        if ref in ref.actor.waiting:
            ref.actor.waiting.remove(ref)

    def shutdown(self):
        raise AssertionError("the connection is the caller's")

    @property
    def alive(self):
        return [actor for actor in self.actors if not actor.dead]
