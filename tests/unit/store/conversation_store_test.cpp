#include "krul/store/conversation_store.hpp"

#include <doctest/doctest.h>

#include <string>
#include <type_traits>
#include <vector>

#include "krul/store/faulty_store.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/throttled_store.hpp"
#include "store_test_support.hpp"
#include "support/temporary_directory.hpp"

using namespace krul;
using test::folder_a;

static_assert(ConversationStore<MemoryStore> && ConversationStore<FileStore>);
static_assert(ConversationStore<ThrottledStore<MemoryStore, ManualClock>> &&
              ConversationStore<ThrottledStore<FileStore>>);
static_assert(ConversationStore<FaultyStore<MemoryStore, ManualClock>> && ConversationStore<FaultyStore<FileStore>>);
static_assert(ConversationStore<FaultyStore<ThrottledStore<FileStore>>>);

namespace {

struct StoreWithoutLock {
  Status put(const std::string&, std::span<const std::byte>);
  Status get(const std::string&, std::uint64_t, std::span<std::byte>);
  Result<std::uint64_t> size(const std::string&);
  Status erase(const std::string&);
  Result<std::vector<std::string>> list(const std::string&);
  StoreCapabilities capabilities();
};
static_assert(!ConversationStore<StoreWithoutLock>);

}  // namespace

TEST_CASE("store keys: what is legal") {
  CHECK(is_store_key(folder_a + "/manifest-a"));
  CHECK(is_store_key("0123456789abcdef0123456789abcdef/a"));
  CHECK(is_store_key(folder_a + "/" + std::string(64, 'x')));
  for (const std::string& key :
       {std::string(), folder_a, folder_a + "/", folder_a + "/.", folder_a + "/..", folder_a + "/.lock",
        folder_a + "/" + std::string(65, 'x'), folder_a + "/a/b", folder_a + "/a_b", folder_a + "/A",
        folder_a + "/" + std::string("a\0b", 3), folder_a + "/\xc3\xa4", std::string(32, 'A') + "/a",
        std::string(31, 'a') + "/a", std::string(33, 'a') + "/a", std::string("../../../etc/passwd"),
        "../" + std::string(29, 'a') + "/a"}) {
    CAPTURE(key);
    CHECK_FALSE(is_store_key(key));
  }
}

// What else they promise is in conformance_test.cpp.
TEST_CASE_TEMPLATE("a store that is busy says what to do", S, MemoryStore, FileStore) {
  const test::TemporaryDirectory directory;
  S store = [&] {
    if constexpr (std::is_same_v<S, FileStore>)
      return FileStore::open(directory.path() / "store").value();
    else
      return MemoryStore();
  }();
  const auto lock = store.lock(folder_a);
  REQUIRE(lock);
  const auto second = store.lock(folder_a);
  REQUIRE(!second);
  CHECK(second.error().message.find(folder_a + "; try again when it is done") != std::string::npos);
  CHECK(second.error().message.find("a Conversation of this process") != std::string::npos);
}
