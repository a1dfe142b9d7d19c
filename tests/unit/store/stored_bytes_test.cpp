#include "krul/store/stored_bytes.hpp"

#include <doctest/doctest.h>

#include <array>
#include <span>
#include <string>

#include "krul/store/conversation_key.hpp"
#include "krul/store/memory_store.hpp"

namespace krul::stored_bytes_test {

TEST_CASE("what is stored is all the objects of one folder") {
  MemoryStore store;
  const std::array<std::byte, 30> bytes{};
  const std::string a = conversation_folder("a").value(), b = conversation_folder("b").value();
  REQUIRE(store.put(a + "/chunk", std::span(bytes)));
  REQUIRE(store.put(a + "/manifest", std::span(bytes).first(5)));
  REQUIRE(store.put(b + "/chunk", std::span(bytes)));
  CHECK(stored_bytes(store, a).value() == 35);
  CHECK(stored_bytes(store, b).value() == 30);
  CHECK(stored_bytes(store, conversation_folder("none").value()).value() == 0);
}

}  // namespace krul::stored_bytes_test
