"""The API reference: every published name is there, and its docstring says what a caller has to know."""

from __future__ import annotations

import ast
import re
import unittest

from tools.site_builder import api


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


class Reference(unittest.TestCase):
    def test_every_published_class_function_and_method_has_a_docstring(self):
        for published in api.PUBLISHED:
            for entry in api.entries(published):
                if entry.kind != "attribute" or "." not in entry.name:
                    with self.subTest(published.module, name=entry.name):
                        self.assertTrue(entry.text)

    def test_every_argument_has_a_type(self):
        for published in api.PUBLISHED:
            for entry in api.entries(published):
                for argument in entry.arguments if entry.kind in ("function", "method") else ():
                    with self.subTest(published.module, name=entry.name, argument=argument):
                        self.assertRegex(entry.declaration, rf"\b{argument}: ")

    def test_every_argument_is_explained_by_the_function_its_class_its_base_class_or_its_module(self):
        for published in api.PUBLISHED:
            module = words_of(api.source_of(published.module).docstring)
            explained = set()
            for entry in api.entries(published):
                if entry.kind == "class":
                    explained = words_of(entry.text) | inherited_words(published.module, entry.name)
                for argument in entry.arguments if entry.kind in ("function", "method") else ():
                    with self.subTest(published.module, name=entry.name, argument=argument):
                        self.assertIn(argument, words_of(entry.text) | explained | module)

    def test_arguments_of_constructors_are_explained_by_their_classes(self):
        for published in api.PUBLISHED:
            for name in api.names_of(published):
                source, node = api.found(published.module, name)
                if not isinstance(node, ast.ClassDef):
                    continue
                entry = next(api._class_entries(source, node))
                for argument in re.findall(r"\b(\w+): ", entry.declaration.partition("\n\n")[2]):
                    with self.subTest(published.module, name=name, argument=argument):
                        self.assertIn(argument, words_of(entry.text))

    def test_the_constructor_of_a_class_that_others_make_is_not_shown(self):
        (client,) = (one for one in api.PUBLISHED if one.module == "pysftpserver.remo.client")
        shown = {entry.name: entry.declaration for entry in api.entries(client)}
        self.assertEqual(shown["Client"], "class Client")
        self.assertIn("\nRequestFailed(status: int, text: str)", shown["RequestFailed"])

    def test_sentences_about_arguments_become_a_list_and_others_stay(self):
        text = "Copy.\n\nsource, target: open files; None: none. size:\nbytes. Raises OSError.\n\n    code()"
        self.assertEqual(
            api.as_markdown(text, ("source", "target", "size")),
            "Copy.\n\n- `source`, `target`: open files; None: none.\n- `size`: bytes.\n\nRaises OSError.\n\n"
            "    code()",
        )

    def test_names_of_published_classes_lead_to_them_and_those_in_code_do_not(self):
        text = "Raises SFTPNotFound in SFTPServer, not SFTPHook. `SFTPHook` OSError\n\n    SFTPHook()"
        self.assertEqual(
            api.with_links(text, "SFTPHook"),
            text.replace("SFTPNotFound", "[SFTPNotFound](pysftpexceptions.md#sftpnotfound)").replace(
                "SFTPServer", "[SFTPServer](server.md#sftpserver)"
            ),
        )
        self.assertNotIn("Client", api._places())  # there are two

    def test_what_is_for_maintainers_is_left_out(self):
        self.assertEqual(api.as_markdown("One. What may not enter: x.y, z. Two.", ()), "One. Two.")

    def test_a_function_that_is_made_from_another_has_its_arguments_and_its_own_result(self):
        (client,) = (one for one in api.PUBLISHED if one.module == "pysftpserver.laboratory.client")
        connect = next(entry for entry in api.entries(client) if entry.name == "connect")
        self.assertRegex(connect.declaration, r"\Adef connect\(\n    host: str,\n[^)]*\) -> Connection\Z")


def inherited_words(module: str, name: str) -> set[str]:
    """The words of all docstrings in the base classes of a class that are in the project."""
    source, node = api.found(module, name)
    found = set()
    for base in map(ast.unparse, getattr(node, "bases", ())):
        place, _ = source.imports.get(base, ("", ""))
        if base in source.statements or place.startswith("pysftpserver."):
            where, one = api.found(source.module, base)
            if isinstance(one, ast.ClassDef):
                found |= inherited_words(where.module, one.name)
                for part in (one, *one.body):
                    if isinstance(part, api.Definition):
                        found |= words_of(ast.get_docstring(part) or "")
    return found
