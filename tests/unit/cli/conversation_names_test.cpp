#include "conversation_names.hpp"

#include <doctest/doctest.h>

namespace {
using krul::cli::with_id;

TEST_CASE("a message names the conversation wherever it named its folder") {
  CHECK(with_id("cannot read object 12ab/manifest-a, lock 12ab", "12ab", "a talk") ==
        "cannot read object of \"a talk\"/manifest-a, lock of \"a talk\"");
  CHECK(with_id("12ab", "12ab", "12ab") == "of \"12ab\"");
  CHECK(with_id("12ab", "12ab", "") == "12ab");
}

}  // namespace
