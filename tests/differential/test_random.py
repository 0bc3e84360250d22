"""Random sequences of requests: the reference and ours must agree on every reply and on the trees.

`PYSFTP_DIFF_EXAMPLES` sets the number of sequences for each program (a long run: 5000), and
`PYSFTP_DIFF_SEED` the seed, a number or "random"; the ordinary run is the same every time.
"""

import os
import pwd
import random
import unittest

from tests.support.examples import HealthCheck, Phase, given, seed, settings
from tests.support.hard import IS_HARD

from . import compare, model

EXAMPLES = int(os.environ.get("PYSFTP_DIFF_EXAMPLES", "100" if IS_HARD else "15"))
STEPS = 100  # of one sequence: starting our server costs as much as 200 requests


def chosen_seed() -> int:
    wanted = os.environ.get("PYSFTP_DIFF_SEED", "3")
    return random.randrange(1 << 32) if wanted == "random" else int(wanted)


class RandomSequences(unittest.TestCase):
    def agree(self, candidate: compare.Server) -> None:
        number = chosen_seed()

        @seed(number)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            derandomize=False,
            report_multiple_bugs=False,
            phases=[Phase.generate],  # compare.minimal shortens sequences, much faster
            suppress_health_check=list(HealthCheck),
        )
        @given(model.sequences(pwd.getpwuid(os.getuid()).pw_name, candidate.jailed, STEPS))
        def sequences_agree(steps):
            if compare.disagreement(candidate, steps):
                failed.append(steps)
                raise compare.Disagreement

        failed: list[list[model.Step]] = []
        try:
            sequences_agree()
        except compare.Disagreement:
            pass
        if failed:
            steps, text = compare.minimal(candidate, failed[-1])
            shown = "\n".join(f"    {step!r}," for step in steps)
            self.fail(f"PYSFTP_DIFF_SEED={number}, minimal sequence:\n{shown}\n{text}")

    def test_the_drop_in_answers_as_the_reference(self):
        self.agree(compare.DROP_IN)

    def test_the_jail_answers_as_the_reference(self):
        self.agree(compare.JAIL)


if __name__ == "__main__":
    unittest.main()
