#include "krul/core/checksum.hpp"

#include <doctest/doctest.h>

#include <string>

#include "krul/store/conversation_key.hpp"
#include "krul/store/conversation_store.hpp"

using namespace krul;

TEST_CASE("XXH3-128 of known inputs") {
  // The first is the published value for the empty input; the second comes from the xxHash library itself.
  CHECK(hexadecimal(checksum({})) == "99aa06d3014798d86001c324468d497f");
  CHECK(hexadecimal(checksum(std::as_bytes(std::span("krul", 4)))) == "be8ad54ec1bed34c7a4fabfa3fbe5038");
}

TEST_CASE("verify names what is damaged") {
  std::string text = "some text";
  const auto bytes = std::as_bytes(std::span(text));
  const Checksum hash = checksum(bytes);
  CHECK(verify(bytes, hash, "chunk 3"));
  text[4] = '_';
  const auto status = verify(bytes, hash, "chunk 3");
  REQUIRE(!status);
  CHECK(status.error().code == ErrorCode::corrupt);
  CHECK(status.error().message.find("chunk 3") == 0);
}

TEST_CASE("conversation ids are data: every non-empty string of bytes is one") {
  std::vector<std::string> ids = {"a",
                                  "A",
                                  ".",
                                  "..",
                                  "/",
                                  "../../etc/passwd",
                                  std::string("\0", 1),
                                  std::string("a\0b", 3),
                                  "\xff\xfe",
                                  "gr\xc3\xbc\xc3\x9f",
                                  " ",
                                  "\n",
                                  "CON",
                                  "a/b",
                                  std::string(longest_conversation_id, 'x'),
                                  std::string(32, 'a')};
  std::vector<std::string> folders;
  for (const std::string& id : ids) {
    const auto folder = conversation_folder(id);
    REQUIRE(folder);
    CHECK(is_store_folder(*folder));
    CHECK(*folder == conversation_folder(id).value());
    folders.push_back(*folder);
    folders.push_back(conversation_folder(id, "tenant").value());
    folders.push_back(conversation_folder(id, "tenant2").value());
  }
  std::sort(folders.begin(), folders.end());
  CHECK(std::adjacent_find(folders.begin(), folders.end()) == folders.end());
  CHECK(conversation_folder("bc", "a").value() != conversation_folder("c", "ab").value());

  CHECK(conversation_folder("").error().code == ErrorCode::invalid_argument);
  CHECK(conversation_folder(std::string(longest_conversation_id + 1, 'x')).error().code == ErrorCode::too_large);
  CHECK(conversation_folder("a", std::string(longest_conversation_id + 1, 'x')).error().code == ErrorCode::too_large);
}

TEST_CASE("the folder of an id is part of the format") {
  CHECK(conversation_folder("hello").value() == "2e96db57068a9308518cc57820d16175");
  CHECK(conversation_folder("hello", "shop").value() == "c44d7313cbc85eb95ae765eaccddf03d");
}
