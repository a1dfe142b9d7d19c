#include "json_table.hpp"

#include <doctest/doctest.h>

using namespace krul::cli;

TEST_CASE("rows of a result become a table") {
  const Json rows = {{{"name", "a\x1b[2J"}, {"share", 0.25}, {"low", 1}, {"high", 2}},
                     {{"name", "b"}, {"share", nullptr}, {"low", nullptr}, {"high", 3}},
                     {{"name", "c"}}};
  const auto text = table_text(
      rows, {JsonColumn::text("name", "what"), {{"share"}, "part", "%", 1, 100}, {{"low", "high"}, "range", "", 0}});
  CHECK(text ==
        "what      part  range\n"
        "             %\n"
        "--------  ----  -----\n"
        "a\\x1b[2J  25.0    1 2\n"
        "b            -    - 3\n"
        "c\n");
}

TEST_CASE("values of one cell stand as the column says") {
  const Json rows = {{{"counted", 3}, {"tasks", 4}}};
  CHECK(table_text(rows, {{.keys = {"counted", "tasks"}, .title = "tasks", .decimals = 0, .between = " of "}}) ==
        " tasks\n------\n3 of 4\n");
}
