#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "krul/store/bounded_store.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/store/tiered_store.hpp"
#include "store_test_support.hpp"

namespace krul {
namespace {

using Bytes = std::vector<std::byte>;
using Faulty = FaultyStore<MemoryStore>;

// Of each operation's calls so many fail.
std::vector<Fault> some_fail(double rate, std::uint64_t seed) {
  std::vector<Fault> faults;
  for (const auto operation : {Fault::Operation::get, Fault::Operation::put, Fault::Operation::size,
                               Fault::Operation::erase, Fault::Operation::list, Fault::Operation::lock})
    faults.push_back({.operation = operation, .rate = rate, .seed = ++seed});
  return faults;
}

class Dice {
 public:
  explicit Dice(unsigned seed) : engine_(seed) {}
  std::size_t operator()(std::size_t below) { return engine_() % below; }

 private:
  std::minstd_rand engine_;
};

// Two tiers of which each call may fail, and what they have to hold.
class TiersUnderFaults {
 public:
  TiersUnderFaults(WriteMode writes, bool keep_reads, unsigned seed)
      : dice_(seed),
        writes_(writes),
        store_(near_, far_, {.writes = writes, .near_alone = NearAlone::forget, .keep_reads = keep_reads}) {
    near_.set_faults(some_fail(0.2, 10));
    far_.set_faults(some_fail(0.2, 20));
  }

  void step() {
    const std::string key = keys_[dice_(keys_.size())];
    const std::uint64_t hits = near_.hits() + far_.hits();
    const auto undisturbed = [&] { return near_.hits() + far_.hits() == hits; };
    switch (dice_(8)) {
      case 0:
      case 1:
        write(key);
        break;
      case 2:
        if (store_.erase(key))
          acknowledge(key, std::nullopt);
        else
          unsure_.insert(key);
        break;
      case 3: {
        Bytes to(size_of(key));
        const Status read = store_.get(key, 0, to);
        check_read(key, read.map([&] { return to; }), undisturbed());
        break;
      }
      case 4: {
        const auto read = store_.load(key, 1 << 20);
        check_read(key, read, undisturbed());
        break;
      }
      case 5:
        if (const auto names = store_.list(test::folder_a); names && undisturbed()) check_names(*names);
        break;
      case 6:
        if (const auto size = store_.size(key); size && !unsure_.contains(key)) CHECK(*size == size_of(key));
        break;
      default:
        lock_or_bring_near();
    }
  }

  // Once all is well again nothing that was acknowledged is missing, and nothing else is there.
  void end() {
    near_.set_faults({});
    far_.set_faults({});
    lock_.reset();
    if (writes_ == WriteMode::back) REQUIRE(store_.flush(test::folder_a));
    CHECK(store_.waiting().empty());
    for (const std::string& key : keys_)
      if (!unsure_.contains(key)) {
        Bytes to(size_of(key));
        const Status read = far_.get(key, 0, to);
        CHECK(read.has_value() == now_[key].has_value());
        if (read && now_[key]) CHECK(to == *now_[key]);
      }
  }

 private:
  [[nodiscard]] static bool is_manifest(const std::string& key) { return is_manifest_name(key.substr(33)); }
  [[nodiscard]] static std::size_t size_of(const std::string& key) { return is_manifest(key) ? 50 : 300; }

  // A segment's name stands for its bytes; a manifest changes.
  void write(const std::string& key) {
    const auto content = is_manifest(key) ? ++written_ : static_cast<std::uint32_t>(key.back());
    const Bytes bytes = test::some_bytes(size_of(key), content);
    if (store_.put(key, bytes)) acknowledge(key, bytes);
  }
  void acknowledge(const std::string& key, std::optional<Bytes> bytes) {
    unsure_.erase(key);
    if (bytes) ever_[key].insert(*bytes);
    now_[key] = std::move(bytes);
  }
  void check_read(const std::string& key, const Result<Bytes>& read, bool undisturbed) {
    if (read) CHECK(ever_[key].contains(*read));
    if (!undisturbed || unsure_.contains(key)) return;
    // A near copy of a segment that could not be erased may still be read.
    if (is_manifest(key) || now_[key]) CHECK(read.has_value() == now_[key].has_value());
    if (read && now_[key]) CHECK(*read == *now_[key]);
  }
  void check_names(const std::vector<std::string>& names) {
    const std::set<std::string> listed(names.begin(), names.end());
    for (const std::string& key : keys_)
      if (!unsure_.contains(key)) CHECK(listed.contains(key.substr(33)) == now_[key].has_value());
  }
  void lock_or_bring_near() {
    if (lock_)
      lock_.reset();
    else if (auto lock = store_.lock(test::folder_a))
      lock_.emplace(std::move(*lock));
    static_cast<void>(store_.bring_near(test::folder_a));
  }

  const std::vector<std::string> keys_{test::folder_a + "/manifest-a", test::folder_a + "/manifest-b",
                                       test::folder_a + "/segment-1-00112233", test::folder_a + "/segment-2-44556677"};
  Dice dice_;
  WriteMode writes_;
  Faulty near_{MemoryStore()}, far_{MemoryStore()};
  TieredStore<Faulty, Faulty> store_;
  std::optional<TieredStore<Faulty, Faulty>::Lock> lock_;
  std::uint32_t written_ = 0;
  std::map<std::string, std::optional<Bytes>> now_;  // what was acknowledged last
  std::map<std::string, std::set<Bytes>> ever_;      // what ever was
  std::set<std::string> unsure_;                     // an erase that failed may have done its work
};

}  // namespace

TEST_CASE("two tiers of which each call may fail: reads are what was acknowledged, and all of it is far in the end") {
  for (const WriteMode writes : {WriteMode::through, WriteMode::back})
    for (const bool keep_reads : {false, true})
      for (unsigned seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        TiersUnderFaults tiers(writes, keep_reads, seed);
        for (int i = 0; i < 200; ++i) tiers.step();
        tiers.end();
      }
}

TEST_CASE("a bounded store of which each call may fail never counts less than is there") {
  Dice dice(3);
  MemoryStore memory;
  Faulty behind{memory};
  auto store = BoundedStore<Faulty>::open(behind, {.bytes = 20'000}).value();
  behind.set_faults(some_fail(0.2, 30));
  for (int i = 0; i < 4'000; ++i) {
    const std::string folder = test::folder_of(dice(6));
    const std::string key = folder + "/segment-" + std::to_string(1 + dice(3)) + "-00112233";
    switch (dice(4)) {
      case 0:
        static_cast<void>(store.erase(key));
        break;
      case 1:
        static_cast<void>(store.lock(folder));
        break;
      case 2:
        if (dice(20) == 0) static_cast<void>(store.recount());
        break;
      default:
        static_cast<void>(store.put(key, test::some_bytes(dice(4'000), 1)));
    }
    REQUIRE(store.used() >= memory.used());
    REQUIRE(store.used() <= 20'000);
  }
  behind.set_faults({});
  REQUIRE(store.recount());
  CHECK(store.used() == memory.used());
}

}  // namespace krul
