#include "krul/eval/by_source.hpp"

#include <doctest/doctest.h>

#include <string>

namespace {
using krul::eval::BySource;

struct Sum {
  int values = 0, total = 0;
  void add(int value, int times) {
    ++values;
    total += value * times;
  }
};

TEST_CASE("everything is counted once in all and once in its source") {
  BySource<Sum> sums;
  CHECK(sums.all().values == 0);
  CHECK(sums.sources().empty());
  sums.add("b", 1, 1);
  sums.add("a", 2, 10);
  sums.add(std::string("b"), 4, 100);
  CHECK(sums.all().values == 3);
  CHECK(sums.all().total == 421);
  REQUIRE(sums.sources().size() == 2);
  CHECK(sums.sources()[0].first == "b");
  CHECK(sums.sources()[0].second.total == 401);
  CHECK(sums.sources()[1].first == "a");
  CHECK(sums.sources()[1].second.total == 20);
}

TEST_CASE("a limit lets the first of each source through") {
  krul::eval::SourceLimit two(2), all(0);
  for (const bool passes : {true, true, false, false}) {
    CHECK(two.take("a") == passes);
    CHECK(two.take("b") == passes);
    CHECK(all.take("a"));
  }
}

}  // namespace
