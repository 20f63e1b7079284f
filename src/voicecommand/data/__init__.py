"""From a source to a ``DatasetDict`` of one shape.

A loader is a function ``load_x(columns, ...) -> datasets.DatasetDict`` in a file of its own, named by
``_target_`` in ``conf/data/*.yaml``. Whatever the source looks like, each split holds string columns: ``id``,
``origin`` ("file:row"), the columns that the task asked for and, where the source has them, ``speaker``,
``template`` and ``response``. Labels stay strings. The splits are train, validation, test and, optionally,
out_of_scope_validation and out_of_scope_test.

``checks`` is what training and ``recipes/audit.py`` run on all of them; ``splits`` the declared split rule.
"""
