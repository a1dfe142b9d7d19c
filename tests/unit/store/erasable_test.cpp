#include "krul/store/erasable.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "krul/store/faulty_store.hpp"
#include "krul/store/memory_store.hpp"
#include "store_test_support.hpp"

namespace krul::erasing {
namespace {

struct Folders {
  MemoryStore store;
  std::string lender = test::folder_a, fork = test::folder_b, other = std::string(32, 'c');

  std::string put_segment(const std::string& folder, std::size_t bytes) {
    const auto content = test::some_bytes(bytes, 1);
    const std::string name = segment_name(1, content);
    REQUIRE(store.put(folder + "/" + name, content));
    return name;
  }
  void lend(const std::string& to, const std::vector<std::string>& segments) {
    const auto content = loan_content(segments);
    REQUIRE(store.put(lender + "/" + loan_name(to, content), content));
  }
};

}  // namespace

TEST_CASE("what is lent is freed once all who borrow it go, too") {
  Folders f;
  const std::string both = f.put_segment(f.lender, 1000), one = f.put_segment(f.lender, 300);
  f.put_segment(f.lender, 50);
  f.put_segment(f.fork, 7);
  REQUIRE(f.store.put(f.lender + "/manifest-a", test::some_bytes(5, 1)));
  REQUIRE(f.store.put(f.lender + "/somebody-else-s", test::some_bytes(5000, 1)));
  f.lend(f.fork, {both, one});
  f.lend(f.other, {both});
  Erasable erasable;
  CHECK(erasable.bytes() == 0);
  REQUIRE(erasable.add(f.store, f.lender));
  CHECK(erasable.bytes() == 55);
  REQUIRE(erasable.add(f.store, f.fork));
  CHECK(erasable.bytes(f.lender) == 355);
  CHECK(erasable.bytes(f.fork) == 7);
  CHECK(erasable.bytes() == 362);
  REQUIRE(erasable.add(f.store, f.other));
  CHECK(erasable.bytes(f.other) == 0);
  CHECK(erasable.bytes() == 1362);
}

TEST_CASE("a folder of which it cannot be told what it lends is not erased") {
  Folders f;
  f.lend(f.fork, {f.put_segment(f.lender, 100)});
  FaultyStore<MemoryStore> faulty(f.store, {{.keys = "*/fork-*", .code = ErrorCode::io}});
  Erasable erasable;
  CHECK(erasable.add(faulty, f.lender).error().code == ErrorCode::io);
  CHECK(erasable.bytes() == 0);
  faulty.set_faults({{.operation = Fault::Operation::size}});
  CHECK(erasable.add(faulty, f.lender).error().code == ErrorCode::io);
}

}  // namespace krul::erasing
