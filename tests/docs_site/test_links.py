"""The pages lead where they say: to files, and to anchors in other pages."""

from __future__ import annotations

import re
import unittest

from tests.support.cases import InAPlace
from tests.support.paths import ROOT
from tools.site_builder import markdown, pages

PAGE = """# One: `two` & three
See [this](other.md#a-b), [that][x], ![a picture](images/a.png "title") and `[code](no.md)`.

```
# no heading
[no](link.md)
```
<!-- [no](comment.md) -->
## Again [linked](https://example.org/#x)
## Again
## Again
<img src="b.svg" alt="">
<a id="by-hand"></a> [far](https://example.org) [mail](mailto:a@example.org)
"""


class Markdown(unittest.TestCase):
    def test_links_are_those_of_the_text_and_not_of_code_and_comments(self):
        self.assertEqual(markdown.links(PAGE), ["other.md#a-b", "images/a.png", "b.svg"])

    def test_links_are_changed_where_they_stand_and_nothing_else_is(self):
        changed = markdown.with_links(PAGE, lambda link: f"new/{link}")
        self.assertEqual(markdown.links(changed), ["new/other.md#a-b", "new/images/a.png", "new/b.svg"])
        self.assertEqual(changed.replace("new/", ""), PAGE)

    def test_a_link_whose_text_is_the_name_of_a_page_gets_another_text(self):
        page = "[a.md](a.md#x), [it](a.md), `[a.md](a.md)`"
        changed = markdown.with_texts(page, lambda link: link.upper())
        self.assertEqual(changed, "[A.MD#X](a.md#x), [it](a.md), `[a.md](a.md)`")

    def test_anchors_are_those_that_github_makes(self):
        anchors = {"one-two--three", "again-linked", "again", "again-1", "by-hand"}
        self.assertEqual(markdown.anchors(PAGE), anchors)


class Links(unittest.TestCase):
    def test_every_link_leads_to_a_file_of_the_repository_and_to_an_anchor_in_it(self):
        anchors = {}
        count = 0
        for page in pages.pages_of(ROOT):
            for link in markdown.links(page.read_text()):
                count += 1
                name, _, anchor = link.partition("#")
                target = (page.parent / name).resolve() if name else page
                with self.subTest(page=str(page.relative_to(ROOT)), link=link):
                    self.assertTrue(target.exists())
                    self.assertTrue(target.is_relative_to(ROOT))
                    if anchor:
                        if target not in anchors:
                            anchors[target] = markdown.anchors(target.read_text())
                        self.assertIn(anchor, anchors[target])
        self.assertGreater(count, 300)

    def test_no_page_is_twice_in_the_side_bar(self):
        every = [name for _, names in pages.CONTENTS for name in names]
        self.assertEqual(len(every), len(set(every)))


class Glossary(unittest.TestCase):
    def test_every_word_has_one_sentence_and_a_source_in_the_order_of_the_alphabet(self):
        page = (ROOT / "docs" / "glossary.md").read_text()
        rows = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| ")][2:]
        self.assertGreater(len(rows), 50)
        for word, sentence, source in rows:
            with self.subTest(word):
                self.assertRegex(sentence, r"\A[A-Z].*[^.]\.\Z")
                self.assertNotRegex(sentence, r"[a-z)]\. ")
                self.assertTrue(source)
        words = [re.sub(r"[^a-z ]", "", word.lower()) for word, _, _ in rows]
        self.assertEqual(words, sorted(words))


class Staging(InAPlace):
    """The pages as Sphinx gets them, without Sphinx."""

    def test_every_link_of_the_site_leads_to_a_file_of_the_site(self):
        site = pages.Site(self.place / "source")
        site.write()
        self.assertEqual(site.problems, [])
        every = sorted(site.target.rglob("*.md"))
        for page in every:
            for link in markdown.links(page.read_text()):
                name = link.partition("#")[0]
                with self.subTest(page=str(page.relative_to(site.target)), link=link):
                    self.assertTrue(not name or (page.parent / name).is_file())
        names = {page.relative_to(site.target).as_posix() for page in every}
        self.assertLessEqual({"index.md", "sshd.md", "api/hook.md", "repository/README.md"}, names)
        self.assertIn("\nsshd\n", (site.target / "index.md").read_text())

    def test_a_link_to_what_is_not_there_is_a_problem(self):
        site = pages.Site(self.place / "source")
        site._moved("docs/a.md", "a.md", "nowhere.md#x")
        site._moved("docs/a.md", "a.md", "../../outside.md")
        self.assertEqual(len(site.problems), 2)
        self.assertIn("docs/a.md: nowhere.md#x", site.problems[0])
