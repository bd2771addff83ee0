"""The coverage gate: which changed lines no test ran."""

from tests.changed_lines import added, ranges, unrun

DIFF = """\
diff --git a/pipeline/one.py b/pipeline/one.py
--- a/pipeline/one.py
+++ b/pipeline/one.py
@@ -3 +3,2 @@ def f():
-    old
+    new
+    newer
@@ -9,2 +10,0 @@
-    gone
-    gone
@@ -20,0 +20 @@
+    last
diff --git a/pipeline/two.py b/pipeline/two.py
--- a/pipeline/two.py
+++ /dev/null
@@ -1,2 +0,0 @@
-import os
-
"""


def test_added_lines_are_counted_in_the_new_file() -> None:
    assert added(DIFF) == {"pipeline/one.py": {3, 4, 20}}


def test_only_changed_lines_that_can_run_count() -> None:
    report = {"pipeline/one.py": {"executed_lines": [3], "missing_lines": [4, 7]}}
    assert unrun(added(DIFF), report) == {"pipeline/one.py": {4}}


def test_a_file_that_no_test_imports_is_not_run() -> None:
    assert unrun({"flows/new.py": {1, 2}}, {}) == {"flows/new.py": {1, 2}}


def test_lines_are_shown_as_ranges() -> None:
    assert ranges({3, 4, 5, 9, 11, 12}) == "3-5, 9, 11-12"
