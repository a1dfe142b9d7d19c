#include "krul/store/conformance.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "krul/store/any_store.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/throttled_store.hpp"
#include "support/temporary_directory.hpp"

namespace krul {
namespace {

// Makers of the suite's stores.
struct MakesMemory {
  MemoryStore store;
  MemoryStore fresh() { return store = MemoryStore(); }
  MemoryStore again() { return store; }
};
template <Durability durability>
struct MakesFilesOf {
  test::TemporaryDirectory directory;
  int number = 0;
  FileStore fresh() {
    ++number;
    return again();
  }
  FileStore again() {
    const auto path = directory.path() / std::to_string(number);
    return FileStore::open(path, {.durability = durability}).value();
  }
};
using MakesFiles = MakesFilesOf<Durability::none>;
template <class Inner>
struct MakesAny {
  Inner inner;
  AnyStore fresh() { return inner.fresh(); }
  AnyStore again() { return inner.again(); }
};
struct MakesThrottled {
  using Store = ThrottledStore<MemoryStore, ManualClock>;
  Store store = made();
  static Store made() { return Store(MemoryStore(), {.bytes_per_s = 1'000'000}); }
  Store fresh() { return store = made(); }
  Store again() { return store; }
};
struct MakesFaultless {
  FaultyStore<MemoryStore> store{MemoryStore()};
  FaultyStore<MemoryStore> fresh() { return store = FaultyStore(MemoryStore()); }
  FaultyStore<MemoryStore> again() { return store; }
};
static_assert(StoreMaker<MakesMemory> && StoreMaker<MakesAny<MakesFiles>> && !StoreMaker<MemoryStore>);

std::string printed(const ConformanceReport& report) {
  std::ostringstream text;
  text << report;
  return text.str();
}

TEST_CASE_TEMPLATE("krul's stores pass the suite", Make, MakesMemory, MakesFiles, MakesAny<MakesMemory>,
                   MakesAny<MakesFiles>, MakesThrottled, MakesFaultless) {
  Make make;
  const ConformanceReport report = check_store(make, {.largest = 1 << 20});
  INFO(printed(report));
  CHECK(report.passed());
  CHECK(report.checks().size() == 23);
}

enum class Flaw {
  none,
  torn_put,          // for a moment the object is half the new one
  appending_put,     // what is put over a longer object leaves its end
  late_to_others,    // another handle does not see what was put
  no_empty_objects,  // takes an empty object for none
  zeros_at_the_end,  // fills up what lies beyond the end
  erase_tells,       // erase fails where nothing was
  erase_by_prefix,   // erases also what begins so
  unsorted_list,     // newest first
  short_list,        // one page of answers
  lock_shows,        // the lock is an object
  no_lock,           // everybody has it
  lock_by_handle,    // knows the holders of this handle only
  lock_of_all,       // one for all folders
  lock_stays,        // nobody gives it back
  any_key,           // keys are not looked at
  small,             // promises larger objects than it takes
  told_twice,        // a read's end is told again
  told_elsewhere,    // ... by a thread of its own
  never_told,        // ... not if it failed
  in_vain,           // limits are not looked at
  one_offset,        // reads of one object begin where its first does
  sizes_of_last,     // sizes in another order
  no_bound,          // loads what is too large
};

// A store with one flaw.
class FlawedStore {
 public:
  struct Lock {
    std::shared_ptr<MemoryStore::Lock> held;
  };

  explicit FlawedStore(Flaw flaw) : flaw_(flaw) {}
  // Another handle.
  [[nodiscard]] FlawedStore again() const {
    FlawedStore other = *this;
    if (flaw_ == Flaw::late_to_others) other.content_ = MemoryStore();
    if (flaw_ == Flaw::lock_by_handle) other.locks_ = MemoryStore();
    return other;
  }

  Status put(const std::string& key, std::span<const std::byte> bytes) {
    if (flaw_ == Flaw::any_key && !is_store_key(key)) return {};
    if (flaw_ == Flaw::small && bytes.size() > 500'000) return fail(ErrorCode::io, "no");
    if (flaw_ == Flaw::no_empty_objects && bytes.empty()) return content_.erase(key);
    const auto old = load_object(content_, key, UINT64_MAX).value_or(std::vector<std::byte>());
    std::vector<std::byte> mix(bytes.begin(), bytes.end());
    if (flaw_ == Flaw::appending_put && old.size() > bytes.size())
      mix.insert(mix.end(), old.begin() + static_cast<std::ptrdiff_t>(bytes.size()), old.end());
    if (flaw_ == Flaw::torn_put && old.size() > 2 && bytes.size() > old.size() / 2) {
      std::copy(old.begin(), old.begin() + static_cast<std::ptrdiff_t>(old.size() / 2), mix.begin());
      if (const Status status = content_.put(key, mix); !status) return status;
      const std::uint64_t before = *gets_;
      for (int i = 0; i < 1000 && *gets_ == before; ++i) std::this_thread::yield();
      std::copy(bytes.begin(), bytes.end(), mix.begin());
    }
    return content_.put(key, mix);
  }
  Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    const Status status = content_.get(key, offset, to);
    ++*gets_;
    if (flaw_ == Flaw::zeros_at_the_end && !status && status.error().code == ErrorCode::truncated) return {};
    return status;
  }
  Result<std::uint64_t> size(const std::string& key) { return content_.size(key); }
  Status erase(const std::string& key) {
    if (flaw_ == Flaw::erase_tells && !content_.size(key)) return fail(ErrorCode::not_found, "nothing there");
    if (flaw_ == Flaw::erase_by_prefix) {
      const auto names = content_.list(key.substr(0, 32)).value();
      for (const std::string& name : names)
        if (name.starts_with(key.substr(33, 1))) static_cast<void>(content_.erase(key.substr(0, 33) + name));
    }
    return content_.erase(key);
  }
  Result<std::vector<std::string>> list(const std::string& folder) {
    auto names = content_.list(folder);
    if (flaw_ == Flaw::unsorted_list) std::reverse(names->begin(), names->end());
    if (flaw_ == Flaw::short_list && names->size() > 32) names->resize(32);
    if (flaw_ == Flaw::lock_shows && !folder.empty() && !locks_.lock(folder)) names->push_back("lock");
    return names;
  }
  Result<Lock> lock(const std::string& folder) {
    expects(is_store_folder(folder), "not a folder");
    if (flaw_ == Flaw::no_lock) return Lock{};
    auto held = locks_.lock(flaw_ == Flaw::lock_of_all ? std::string(32, '0') : folder);
    if (!held) return propagate(held);
    Lock lock{std::make_shared<MemoryStore::Lock>(std::move(*held))};
    if (flaw_ == Flaw::lock_stays) kept_->push_back(lock);
    return lock;
  }
  StoreCapabilities capabilities() { return {.largest = flaw_ == Flaw::small ? 600'000U : 0U}; }

  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
    for (std::size_t i = 0; i < reads.size(); ++i) {
      Status status = flaw_ == Flaw::in_vain ? Status() : limits.check(TimePoint(0));
      const std::uint64_t offset = flaw_ == Flaw::one_offset ? reads[0].offset : reads[i].offset;
      if (status) status = get(reads[i].key, offset, reads[i].to);
      if (flaw_ == Flaw::never_told && !status) continue;
      if (flaw_ == Flaw::told_elsewhere) {
        std::jthread([&] { ended(i, status); });
        continue;
      }
      ended(i, status);
      if (flaw_ == Flaw::told_twice && i + 1 == reads.size()) ended(i, status);
    }
  }
  std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) {
    std::vector<Result<std::uint64_t>> sizes;
    for (const std::string& key : keys) sizes.push_back(size(key));
    if (flaw_ == Flaw::sizes_of_last) std::reverse(sizes.begin(), sizes.end() - (sizes.empty() ? 0 : 1));
    return sizes;
  }
  Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) {
    return load_object(content_, key, flaw_ == Flaw::no_bound ? UINT64_MAX : most);
  }

 private:
  Flaw flaw_;
  MemoryStore content_, locks_;
  std::shared_ptr<std::atomic<std::uint64_t>> gets_ = std::make_shared<std::atomic<std::uint64_t>>(0);
  std::shared_ptr<std::vector<Lock>> kept_ = std::make_shared<std::vector<Lock>>();
};
static_assert(ReadsTogether<FlawedStore> && SizesTogether<FlawedStore> && LoadsWhole<FlawedStore>);

struct MakesFlawed {
  Flaw flaw;
  FlawedStore store{flaw};
  FlawedStore fresh() { return store = FlawedStore(flaw); }
  FlawedStore again() { return store.again(); }
};

// The checks that a store with this flaw fails, by their names.
std::vector<std::string> found(Flaw flaw) {
  MakesFlawed make{flaw};
  std::vector<std::string> names;
  const ConformanceReport report = check_store(make, {.largest = 1 << 20});
  for (const ConformanceCheck& check : report.checks())
    if (!check.passed) {
      CHECK_FALSE(check.detail.empty());
      names.push_back(check.name);
    }
  return names;
}

TEST_CASE("files that are durable pass the suite") {
  MakesFilesOf<Durability::full> make;
  const ConformanceReport report = check_store(make, {.largest = 100'000, .objects = 5, .threads = 2, .rounds = 3});
  INFO(printed(report));
  CHECK(report.passed());
}

TEST_CASE("a store with a flaw fails the promise that it breaks") {
  CHECK(found(Flaw::none).empty());
  const std::pair<Flaw, const char*> flaws[] = {
      {Flaw::torn_put, "threads: who reads"},
      {Flaw::appending_put, "objects: put replaces"},
      {Flaw::late_to_others, "objects: what was put"},
      {Flaw::no_empty_objects, "objects: what was put"},
      {Flaw::zeros_at_the_end, "objects: reading beyond"},
      {Flaw::erase_tells, "objects: one that is not there"},
      {Flaw::erase_by_prefix, "objects: erase"},
      {Flaw::unsorted_list, "lists: a folder's"},
      {Flaw::short_list, "lists: a folder's"},
      {Flaw::lock_shows, "locks: other folders"},
      {Flaw::no_lock, "locks: one holder"},
      {Flaw::lock_by_handle, "locks: one holder"},
      {Flaw::lock_of_all, "locks: other folders"},
      {Flaw::lock_stays, "locks: one holder"},
      {Flaw::any_key, "objects: what is no key"},
      {Flaw::small, "objects: what was put"},
      {Flaw::told_twice, "reads together: each"},
      {Flaw::told_elsewhere, "reads together: each"},
      {Flaw::never_told, "reads together: each"},
      {Flaw::in_vain, "reads together: none ends"},
      {Flaw::one_offset, "reads together: each"},
      {Flaw::sizes_of_last, "sizes together"},
      {Flaw::no_bound, "whole objects"},
  };
  for (const auto& [flaw, broken] : flaws) {
    const std::string promise = broken;
    const auto names = found(flaw);
    CAPTURE(promise);
    CHECK(std::any_of(names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(promise); }));
  }
}

TEST_CASE("the suite says what it left out, and needs two threads") {
  MakesMemory make;
  CHECK_THROWS_AS((void)check_store(make, {.threads = 1}), PreconditionError);
  MakesFlawed small{Flaw::small};
  const auto report = check_store(small, {.largest = 1000});
  CHECK(std::any_of(report.checks().begin(), report.checks().end(),
                    [](const auto& check) { return check.detail == "not tried: options.largest is smaller"; }));
}

}  // namespace
}  // namespace krul
