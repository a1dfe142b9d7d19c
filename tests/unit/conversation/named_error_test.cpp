#include "krul/conversation/named_error.hpp"

#include <doctest/doctest.h>

namespace krul {
namespace {

TEST_CASE("a message names the conversation wherever it named its folder") {
  CHECK(with_id("cannot read object 12ab/manifest-a, lock 12ab", "12ab", "a talk") ==
        "cannot read object of \"a talk\"/manifest-a, lock of \"a talk\"");
  CHECK(with_id("object bucket/.locks/12ab, key krul:{12ab}:objects; folder 12ab", "12ab", "a talk") ==
        "object bucket/.locks/12ab, key krul:{12ab}:objects; folder of \"a talk\"");
  CHECK(with_id("12ab", "12ab", "12ab") == "of \"12ab\"");
  CHECK(with_id("12ab", "12ab", "") == "12ab");
}

TEST_CASE("an error of a conversation names it by its id") {
  const std::string folder = conversation_folder("a\ntalk").value();
  const Error named = named_error("a\ntalk", {ErrorCode::busy, "folder " + folder + " is locked"});
  CHECK(named.code == ErrorCode::busy);
  CHECK(named.message == "folder of \"a\\ntalk\" is locked");
  CHECK(named_error("", {ErrorCode::io, "as it is"}).message == "as it is");
}

}  // namespace
}  // namespace krul
