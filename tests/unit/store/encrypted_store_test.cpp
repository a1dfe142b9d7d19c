#include "krul/store/encrypted_store.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "krul/store/counted_store.hpp"
#include "krul/store/faulty_store.hpp"
#include "store_makers.hpp"
#include "store_test_support.hpp"
#include "support/encryption_key.hpp"
#include "support/temporary_directory.hpp"

namespace krul {
namespace {

using test::key_of_all;

// False, with a message, where this build has no libsodium.
bool can_encrypt() {
  const auto cipher = PageCipher::make({key_of_all(1)});
  if (!cipher) {
    CHECK(cipher.error().code == ErrorCode::unsupported);
    MESSAGE("skipped: " << cipher.error().message);
  }
  return cipher.has_value();
}

template <ConversationStore S>
EncryptedStore<S> encrypted(S store, EncryptionKeys keys = {key_of_all(1)}) {
  return EncryptedStore<S>::make(std::move(store), std::move(keys)).value();
}

const std::string object_a = test::folder_a + "/segment-1-00112233";
const std::string object_b = test::folder_b + "/segment-1-00112233";
constexpr std::size_t page = PageLayout::page, sealed_page = PageLayout::page + PageLayout::extra;

std::vector<std::byte> stored(MemoryStore& store, const std::string& key) {
  return load_object(store, key, UINT64_MAX).value();
}

template <class S>
ErrorCode read_error(S& store, const std::string& key, std::uint64_t offset, std::size_t count) {
  std::vector<std::byte> to(count);
  const Status status = store.get(key, offset, to);
  return status ? ErrorCode::busy : status.error().code;
}

}  // namespace

TEST_CASE("lengths of what is encrypted and what was") {
  for (const std::uint64_t plain : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{page - 1}, std::uint64_t{page},
                                    std::uint64_t{page + 1}, std::uint64_t{10 * page}, std::uint64_t{1} << 40}) {
    const std::uint64_t sealed = PageLayout::sealed_bytes(plain);
    CAPTURE(plain);
    CHECK(PageLayout::plain_bytes(sealed) == plain);
    CHECK(PageLayout::largest_plain(sealed) == plain);
    CHECK((sealed - plain) % PageLayout::extra == 0);
  }
  for (const std::uint64_t sealed : {std::uint64_t{0}, std::uint64_t{PageLayout::extra - 1},
                                     std::uint64_t{sealed_page + 1}, std::uint64_t{sealed_page + PageLayout::extra}})
    CHECK_FALSE(PageLayout::plain_bytes(sealed));
  CHECK(PageLayout::largest_plain(sealed_page + PageLayout::extra) == page);
  CHECK(PageLayout::largest_plain(3) == 0);
  CHECK(PageLayout::sealed_bytes(UINT64_MAX) == UINT64_MAX);
}

TEST_CASE("without libsodium, or with it, make says whether it can") {
  can_encrypt();
}

TEST_CASE("a store that encrypts is still one") {
  if (!can_encrypt()) return;
  CHECK(test::broken_promises([](auto store) { return encrypted(std::move(store)); }) == "");
}

TEST_CASE("what lies in the store behind shows nothing of the object, and never the same twice") {
  if (!can_encrypt()) return;
  MemoryStore behind;
  auto store = encrypted(behind);
  const std::vector<std::byte> zeros(3 * page + 5);
  REQUIRE(store.put(object_a, zeros));
  const auto first = stored(behind, object_a);
  CHECK(first.size() == PageLayout::sealed_bytes(zeros.size()));
  CHECK(store.size(object_a) == zeros.size());
  // Of random bytes one in 256 is 0.
  CHECK(std::count(first.begin(), first.end(), std::byte{0}) < 800);
  const auto body = [](const std::vector<std::byte>& sealed, std::size_t index) {
    const auto begin = sealed.begin() + static_cast<std::ptrdiff_t>(index * sealed_page + PageLayout::head);
    return std::vector<std::byte>(begin, begin + 100);
  };
  CHECK(body(first, 0) != body(first, 1));
  REQUIRE(store.put(object_a, zeros));
  CHECK(body(first, 0) != body(stored(behind, object_a), 0));
}

TEST_CASE("a part of an object is read with the pages it lies in, and its size is asked for once") {
  if (!can_encrypt()) return;
  CountedStore<MemoryStore> behind{MemoryStore()};
  auto store = encrypted(behind);
  const auto bytes = test::some_bytes(10 * page + 100, 1);
  REQUIRE(store.put(object_a, bytes));
  std::vector<std::byte> to(1000);
  for (const std::size_t offset : {std::size_t{0}, 5 * page + 3, 7 * page - 500, 10 * page - 900}) {
    REQUIRE(store.get(object_a, offset, to));
    CHECK(std::equal(to.begin(), to.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset)));
  }
  const StoreCounts counts = behind.counts();
  CHECK(counts.of(StoreOperation::size).calls == 1);
  CHECK(counts.of(StoreOperation::get).bytes == 5 * sealed_page + 100 + PageLayout::extra);
}

TEST_CASE("every flipped bit of an object is noticed") {
  if (!can_encrypt()) return;
  MemoryStore behind;
  auto store = encrypted(behind);
  const auto bytes = test::some_bytes(21, 1);
  REQUIRE(store.put(object_a, bytes));
  const auto good = stored(behind, object_a);
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    auto flipped = good;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    REQUIRE(behind.put(object_a, flipped));
    CHECK(read_error(store, object_a, 3, 5) == ErrorCode::corrupt);
    CHECK(store.load(object_a, 100).error().code == ErrorCode::corrupt);
  }
  REQUIRE(behind.put(object_a, good));
  CHECK(store.load(object_a, 100) == bytes);
}

TEST_CASE("objects and pages in each other's place are noticed, and so is what was cut off") {
  if (!can_encrypt()) return;
  MemoryStore behind;
  auto store = encrypted(behind);
  const std::size_t size = 3 * page;
  REQUIRE(store.put(object_a, test::some_bytes(size, 1)));
  REQUIRE(store.put(object_b, test::some_bytes(size, 2)));
  const auto a = stored(behind, object_a), b = stored(behind, object_b);

  SUBCASE("another object, of the same name in another folder") {
    REQUIRE(behind.put(object_a, b));
    CHECK(read_error(store, object_a, 0, 10) == ErrorCode::corrupt);
  }
  SUBCASE("another page of the object") {
    auto moved = a;
    std::copy_n(a.begin() + sealed_page, sealed_page, moved.begin());
    REQUIRE(behind.put(object_a, moved));
    CHECK(read_error(store, object_a, 0, 10) == ErrorCode::corrupt);
    CHECK(read_error(store, object_a, page, 10) == ErrorCode::busy);
  }
  SUBCASE("a page of the object as it was before") {
    REQUIRE(store.put(object_a, test::some_bytes(size, 3)));
    auto mixed = stored(behind, object_a);
    std::copy_n(a.begin(), sealed_page, mixed.begin());
    REQUIRE(behind.put(object_a, mixed));
    CHECK(read_error(store, object_a, page - 10, 20) == ErrorCode::corrupt);
    CHECK(store.load(object_a, size).error().code == ErrorCode::corrupt);
  }
  SUBCASE("cut off between two pages") {
    for (const std::size_t pages : {1, 2}) {
      REQUIRE(behind.put(object_a, std::span(a).first(pages * sealed_page)));
      CHECK(read_error(store, object_a, 0, 10) == ErrorCode::corrupt);
      CHECK(store.load(object_a, size).error().code == ErrorCode::corrupt);
    }
    CHECK(read_error(store, object_a, 2 * page, 10) == ErrorCode::truncated);
  }
  SUBCASE("cut off anywhere") {
    for (const std::size_t left :
         {std::size_t{0}, std::size_t{10}, std::size_t{sealed_page + 7}, 2 * sealed_page + 100}) {
      REQUIRE(behind.put(object_a, std::span(a).first(left)));
      CHECK(store.load(object_a, size).error().code == ErrorCode::corrupt);
      CHECK(read_error(store, object_a, 0, size) != ErrorCode::busy);
    }
  }
}

TEST_CASE("keys: another one reads nothing, an older one still does, and what is written again needs it no more") {
  if (!can_encrypt()) return;
  MemoryStore behind;
  const auto bytes = test::some_bytes(100, 1);
  auto before = encrypted(behind, {key_of_all(1)});
  REQUIRE(before.put(object_a, bytes));
  auto other = encrypted(behind, {key_of_all(2)});
  CHECK(read_error(other, object_a, 0, 100) == ErrorCode::corrupt);
  auto rotated = encrypted(behind, {key_of_all(2), {key_of_all(1)}});
  CHECK(rotated.load(object_a, 100) == bytes);
  REQUIRE(rotated.put(object_a, bytes));
  CHECK(other.load(object_a, 100) == bytes);
  CHECK(read_error(before, object_a, 0, 100) == ErrorCode::corrupt);
}

TEST_CASE("reads together whose object was replaced or damaged meanwhile end as they should") {
  if (!can_encrypt()) return;
  MemoryStore behind;
  auto store = encrypted(behind), writer = encrypted(behind);
  REQUIRE(store.put(object_a, test::some_bytes(1000, 1)));
  REQUIRE(store.put(object_b, test::some_bytes(1000, 2)));
  std::vector<std::byte> a(500), b(500);
  const std::vector<RangedRead> reads = {{object_a, 100, a}, {object_b, 0, b}};
  std::vector<ErrorCode> ends(2);
  const auto read = [&] {
    store.get_together(reads, {}, [&](std::size_t i, const Status& status) {
      ends[i] = status ? ErrorCode::busy : status.error().code;
    });
  };
  read();
  const auto longer = test::some_bytes(40'000, 3);
  REQUIRE(writer.put(object_a, longer));
  auto damaged = stored(behind, object_b);
  damaged[60] ^= std::byte{1};
  REQUIRE(behind.put(object_b, damaged));
  read();
  CHECK(ends == std::vector{ErrorCode::busy, ErrorCode::corrupt});
  CHECK(std::equal(a.begin(), a.end(), longer.begin() + 100));
}

TEST_CASE("an object that the store behind cannot take is refused, and no larger one is promised") {
  if (!can_encrypt()) return;
  struct Small : MemoryStore {
    [[nodiscard]] StoreCapabilities capabilities() const noexcept { return {.largest = 20'000}; }
  };
  auto store = encrypted(Small());
  CHECK(store.capabilities().largest == 20'000 - 2 * PageLayout::extra);
}

TEST_CASE("a key's file has 32 bytes and belongs to its owner alone") {
  const test::TemporaryDirectory directory;
  const auto path = directory.path() / "key";
  const auto write = [&](const std::string& bytes, mode_t mode) {
    std::ofstream(path, std::ios::binary) << bytes;
    REQUIRE(::chmod(path.c_str(), mode) == 0);
  };
  const std::string good = "0123456789abcdef0123456789abcdef";
  CHECK(read_encryption_key(path).error().code == ErrorCode::not_found);
  write(good, 0600);
  const auto key = read_encryption_key(path);
  REQUIRE(key);
  CHECK(std::equal(good.begin(), good.end(), key->bytes().begin(),
                   [](char c, std::byte b) { return std::byte(c) == b; }));
  for (const mode_t mode : {0640, 0604, 0620}) {
    write(good, mode);
    CHECK(read_encryption_key(path).error().code == ErrorCode::invalid_argument);
  }
  for (const std::string& bytes : {std::string(), good.substr(1), good + "\n"}) {
    write(bytes, 0600);
    CHECK(read_encryption_key(path).error().code == ErrorCode::invalid_argument);
  }
  CHECK(read_encryption_key(directory.path()).error().code == ErrorCode::io);
}

TEST_CASE("a key that is no more has left nothing in its memory") {
  alignas(EncryptionKey) std::array<std::byte, sizeof(EncryptionKey)> room{};
  auto* const key = new (room.data()) EncryptionKey(key_of_all(7).bytes());
  CHECK(key->bytes()[3] == std::byte{7});
  key->~EncryptionKey();
  CHECK(std::count(room.begin(), room.end(), std::byte{7}) == 0);
}

}  // namespace krul
