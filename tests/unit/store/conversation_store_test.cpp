#include "krul/store/conversation_store.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "krul/store/any_store.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/throttled_store.hpp"
#include "store_test_support.hpp"
#include "support/temporary_directory.hpp"

using namespace krul;
using test::folder_a;
using test::folder_b;
using test::some_bytes;

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

// How the suite below makes an empty store of each type.
struct InMemory {
  MemoryStore store;
};
struct InFiles {
  test::TemporaryDirectory directory;
  FileStore store = FileStore::open(directory.path() / "store", {.durability = Durability::none}).value();
};
struct InFilesDurably {
  test::TemporaryDirectory directory;
  FileStore store = FileStore::open(directory.path() / "store").value();
};
struct Throttled {
  ThrottledStore<MemoryStore, ManualClock> store{MemoryStore(), {.bytes_per_s = 1'000'000}};
};
struct Faultless {
  FaultyStore<MemoryStore, ManualClock> store{MemoryStore()};
};
struct InFilesAsAny {
  test::TemporaryDirectory directory;
  AnyStore store = FileStore::open(directory.path() / "store", {.durability = Durability::none}).value();
};
struct ThrottledAsAny {
  AnyStore store = ThrottledStore<MemoryStore, ManualClock>(MemoryStore(), {.bytes_per_s = 1'000'000});
};

ErrorCode code_of(const Status& status) {
  REQUIRE(!status);
  CHECK(!status.error().message.empty());
  return status.error().code;
}

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

TEST_CASE_TEMPLATE("every store keeps the contract", Fixture, InMemory, InFiles, InFilesDurably, Throttled, Faultless,
                   InFilesAsAny, ThrottledAsAny) {
  Fixture fixture;
  auto& store = fixture.store;
  const std::string key = folder_a + "/segment-1-00112233";
  const auto bytes = some_bytes(200'000, 1);
  std::vector<std::byte> read(bytes.size());

  SUBCASE("an object that is not there") {
    CHECK(code_of(store.get(key, 0, read)) == ErrorCode::not_found);
    REQUIRE(!store.size(key));
    CHECK(store.size(key).error().code == ErrorCode::not_found);
    CHECK(store.erase(key));
    CHECK(store.list(folder_a).value().empty());
    CHECK(store.list("").value().empty());
    REQUIRE(store.put(folder_a + "/other", bytes));
    CHECK(code_of(store.get(key, 0, read)) == ErrorCode::not_found);
    CHECK(store.erase(key));
  }
  SUBCASE("what is put comes back, whole and in parts") {
    REQUIRE(store.put(key, bytes));
    CHECK(store.size(key).value() == bytes.size());
    REQUIRE(store.get(key, 0, read));
    CHECK(read == bytes);
    std::vector<std::byte> part(1000);
    REQUIRE(store.get(key, 77'777, part));
    CHECK(std::equal(part.begin(), part.end(), bytes.begin() + 77'777));
    CHECK(store.get(key, bytes.size(), {}));
  }
  SUBCASE("reads beyond the end") {
    REQUIRE(store.put(key, bytes));
    CHECK(code_of(store.get(key, 1, read)) == ErrorCode::truncated);
    CHECK(code_of(store.get(key, bytes.size() + 1, {})) == ErrorCode::truncated);
    CHECK(code_of(store.get(key, UINT64_MAX, std::span(read).first(1))) == ErrorCode::truncated);
    CHECK(code_of(store.get(key, UINT64_MAX - 1, std::span(read).first(10))) == ErrorCode::truncated);
  }
  SUBCASE("put replaces; empty objects exist") {
    REQUIRE(store.put(key, bytes));
    const auto other = some_bytes(300, 2);
    REQUIRE(store.put(key, other));
    CHECK(store.size(key).value() == other.size());
    read.resize(other.size());
    REQUIRE(store.get(key, 0, read));
    CHECK(read == other);
    REQUIRE(store.put(key, {}));
    CHECK(store.size(key).value() == 0);
  }
  SUBCASE("lists are sorted, and know folders apart") {
    for (const char* object : {"b", "a", "manifest-a", "segment-10-0", "segment-9-0"})
      REQUIRE(store.put(folder_b + "/" + object, bytes));
    REQUIRE(store.put(folder_a + "/z", bytes));
    CHECK(store.list(folder_b).value() ==
          std::vector<std::string>{"a", "b", "manifest-a", "segment-10-0", "segment-9-0"});
    CHECK(store.list(folder_a).value() == std::vector<std::string>{"z"});
    CHECK(store.list("").value() == std::vector<std::string>{folder_a, folder_b});
    REQUIRE(store.erase(folder_a + "/z"));
    CHECK(store.list(folder_a).value().empty());
    CHECK(store.list("").value() == std::vector<std::string>{folder_b});
  }
  SUBCASE("one writer a folder") {
    {
      auto lock = store.lock(folder_a);
      REQUIRE(lock);
      const auto second = store.lock(folder_a);
      REQUIRE(!second);
      CHECK(second.error().code == ErrorCode::busy);
      CHECK(second.error().message.find(folder_a + "; try again when it is done") != std::string::npos);
      CHECK(second.error().message.find("a Conversation of this process") != std::string::npos);
      CHECK(store.lock(folder_b));
      CHECK(store.list("").value().empty());
      const auto moved = std::move(*lock);
      CHECK(!store.lock(folder_a));
      CHECK(store.put(key, bytes));
    }
    CHECK(store.lock(folder_a));
    CHECK(store.size(key).value() == bytes.size());
  }
  SUBCASE("a wrong key is the caller's mistake") {
    CHECK_THROWS_AS((void)store.put("../x", bytes), PreconditionError);
    CHECK_THROWS_AS((void)store.get(folder_a + "/..", 0, read), PreconditionError);
    CHECK_THROWS_AS((void)store.size(folder_a), PreconditionError);
    CHECK_THROWS_AS((void)store.erase(folder_a + "/.lock"), PreconditionError);
    CHECK_THROWS_AS((void)store.list(".."), PreconditionError);
    CHECK_THROWS_AS((void)store.lock(""), PreconditionError);
  }
  SUBCASE("threads may put, get, list and erase at once, and see whole objects only") {
    const auto one = some_bytes(3'000, 1), two = some_bytes(5'000, 2);
    REQUIRE(store.put(key, one));
    std::atomic<bool> good = true;
    const auto writer = [&](std::uint32_t number) {
      for (int i = 0; i < 25; ++i) {
        if (!store.put(key, i % 2 ? one : two)) good = false;
        const std::string own = folder_b + "/own-" + std::to_string(number);
        if (!store.put(own, one) || !store.size(own) || !store.list(folder_b) || !store.list("") || !store.erase(own))
          good = false;
      }
    };
    const auto reader = [&] {
      std::vector<std::byte> to(one.size());
      for (int i = 0; i < 60; ++i) {
        if (!store.get(key, 0, to)) good = false;
        if (to != one && !std::equal(to.begin(), to.end(), two.begin())) good = false;
      }
    };
    {
      std::vector<std::jthread> threads;
      threads.emplace_back(writer, 1U);
      threads.emplace_back(writer, 2U);
      threads.emplace_back(reader);
    }
    CHECK(good);
  }
}
