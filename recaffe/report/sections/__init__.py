"""The report's sections, in their order.

A section is a module here and a template of the same name, parts/NAME.html.j2. The module has a
`TITLE` and `view(facts, album)`, which gives the template's variables beside the facts themselves, or
None where the report has no such section. To add one, write the two files and put the module into `ORDER`;
what it reads from the results comes with `collect.collect`, so that it is known which files the
report follows from (REPORT_DATA and REPORT_RUN in rules/keys.smk).
"""

from __future__ import annotations

from recaffe.report.sections import (
    augment,
    calibration,
    classes,
    data,
    heat_maps,
    lr_range,
    net,
    pictures,
    provenance,
    result,
    runs,
    speed,
    training,
)

ORDER = (
    result, runs, data, net, augment, lr_range, training, classes, pictures, heat_maps, calibration,
    speed, provenance,
)  # fmt: skip
