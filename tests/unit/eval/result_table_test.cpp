#include "krul/eval/result_table.hpp"

#include <doctest/doctest.h>

#include <limits>

namespace {
using namespace krul::eval;
using krul::PreconditionError;

TEST_CASE("columns line up, units have their own line, no line ends in a space") {
  ResultTable table({{"strategy", "", ResultTable::Align::left}, {"first token", "ms"}, {"bytes", "KiB"}});
  table.add({"recompute", cell(1767.25), "0"});
  table.add({"krul", cell(44.5), cell(11.5, 2)});
  CHECK(table.text() ==
        "strategy   first token  bytes\n"
        "                    ms    KiB\n"
        "---------  -----------  -----\n"
        "recompute       1767.2      0\n"
        "krul              44.5  11.50\n");
}

TEST_CASE("without units there is no line for them; letters beyond ASCII take one place") {
  ResultTable table({{"ab", "", ResultTable::Align::left}, {"note", "", ResultTable::Align::left}});
  table.add({"µs", "x"});
  CHECK(table.text() == "ab  note\n--  ----\nµs  x\n");
}

TEST_CASE("cells") {
  CHECK(cell(2.0 / 3, 3) == "0.667");
  CHECK(cell(1e308, 0).size() == 309);
  CHECK(cell(std::numeric_limits<double>::quiet_NaN()) == "-");
  CHECK(cell(PairedRatio{1.421, {1.38, 1.468, 0.98}}) == "1.42 [1.38, 1.47]");
  CHECK(cell(PairedRatio{1.421, {1.38, 1.468, 0.94}}) == "1.42, too few rounds");
}

TEST_CASE("mistakes in a call") {
  CHECK_THROWS_AS(ResultTable({}), PreconditionError);
  ResultTable table({{"a"}, {"b"}});
  CHECK_THROWS_AS(table.add({"1"}), PreconditionError);
}

}  // namespace
