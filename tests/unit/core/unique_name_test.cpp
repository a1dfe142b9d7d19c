#include "krul/core/unique_name.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace krul;

TEST_CASE("a name has 32 hexadecimal digits, and is another one each time") {
  std::set<std::string> names;
  for (int i = 0; i < 100; ++i) {
    const std::string name = unique_name();
    CHECK(name.size() == 32);
    CHECK(name.find_first_not_of("0123456789abcdef") == std::string::npos);
    names.insert(name);
  }
  CHECK(names.size() == 100);
}
