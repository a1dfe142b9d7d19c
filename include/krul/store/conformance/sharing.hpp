#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "krul/store/conformance/samples.hpp"

namespace krul::conformance {

/// One writer of a folder.
template <StoreMaker Make>
void check_locks(Make& make, const StoreCheckOptions& options, ConformanceReport& report) {
  report.add("locks: one holder of a folder, whatever the handle, until the lock dies", [&] {
    auto store = make.fresh();
    auto again = make.again();
    for (int round = 0; round < 2; ++round) {
      auto lock = store.lock(store_folder);
      require_done(lock, round == 0 ? "lock" : "lock when the one before is dead");
      require_fails(store.lock(store_folder), ErrorCode::busy, "locking a folder twice");
      require_fails(again.lock(store_folder), ErrorCode::busy, "locking a folder twice, through another handle,");
      const auto moved = std::move(*lock);
      require_fails(again.lock(store_folder), ErrorCode::busy, "locking a folder whose lock was moved");
    }
    {
      const auto lock = again.lock(store_folder);
      require_done(lock, "lock, through another handle, when the one before is dead");
      require_fails(store.lock(store_folder), ErrorCode::busy, "locking a folder twice, through another handle,");
    }
    require_done(store.lock(store_folder), "lock at last");
    return std::string();
  });

  report.add("locks: other folders, readers and the holder go on", [&] {
    auto store = make.fresh();
    auto again = make.again();
    const auto bytes = object_bytes(1000, 1);
    const auto lock = store.lock(store_folder);
    require_done(lock, "lock");
    const auto names = again.list(store_folder);
    require(names && names->empty(), "a lock shows in list(folder)");
    require_done(again.lock(other_folder), "locking another folder");
    require_done(store.put(key_of("object"), bytes), "putting under the lock");
    require_holds(store, key_of("object"), bytes, "put under the lock");
    require_holds(again, key_of("object"), bytes, "through another handle, under the lock");
    require(again.list(store_folder) == std::vector<std::string>{"object"}, "list under a lock is not what was put");
    require_done(store.erase(key_of("object")), "erasing under the lock");
    return std::string();
  });

  report.add("locks: of threads that want one at once, one has it", [&] {
    auto store = make.fresh();
    auto again = make.again();
    std::atomic<int> inside = 0;
    std::atomic<std::size_t> had = 0;
    std::atomic<bool> alone = true, refused_well = true;
    const auto want = [&](auto& handle) {
      for (std::size_t i = 0; i < options.rounds; ++i) {
        const auto lock = handle.lock(store_folder);
        if (!lock) {
          if (lock.error().code != ErrorCode::busy) refused_well = false;
          continue;
        }
        if (++inside != 1) alone = false;
        ++had;
        --inside;
      }
    };
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < options.threads; ++i)
        threads.emplace_back([&, i] { i % 2 ? want(again) : want(store); });
    }
    require(alone, "two threads held the lock of one folder at once");
    require(refused_well, "a lock that another thread holds is refused with another error than busy");
    require(had > 0, "no thread ever had the lock");
    require_done(store.lock(store_folder), "lock when all are done");
    return std::to_string(had) + " times held";
  });
}

/// What went wrong first, in any thread.
class FirstTrouble {
 public:
  template <class Work>
  void watch(Work&& work) {
    try {
      work();
    } catch (const std::exception& failure) {
      const std::lock_guard guard(mutex_);
      if (!first_) first_ = failure.what();
    }
  }
  /// @throws Broken if something did; once the threads are done
  void tell() const {
    if (first_) throw Broken(*first_);
  }

 private:
  std::mutex mutex_;
  std::optional<std::string> first_;
};

/// Several threads at once.
template <StoreMaker Make>
void check_threads(Make& make, const StoreCheckOptions& options, ConformanceReport& report) {
  report.add("threads: each has its own objects", [&] {
    auto store = make.fresh();
    FirstTrouble trouble;
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < options.threads; ++i)
        threads.emplace_back([&, i] {
          trouble.watch([&] {
            const std::string folder = i % 2 ? store_folder : other_folder;
            const std::string object = "own-" + std::to_string(i), key = folder + "/" + object;
            for (std::size_t round = 0; round < options.rounds; ++round) {
              const auto bytes = object_bytes(1000 * i + 97 * round, i + 1000 * round);
              require_done(store.put(key, bytes), "put");
              require_holds(store, key, bytes, "put by one of several threads");
              const auto names = store.list(folder);
              require_done(names, "list");
              require(std::binary_search(names->begin(), names->end(), object), "list lacks what this thread put");
              require_done(store.list(""), "list('')");
              require_done(store.erase(key), "erase");
              require_fails(store.size(key), ErrorCode::not_found, "the size of what this thread erased");
            }
          });
        });
    }
    trouble.tell();
    return std::string();
  });

  report.add("threads: who reads what another one replaces has the old object or the new one", [&] {
    auto store = make.fresh();
    auto again = make.again();
    std::vector<std::vector<std::byte>> versions;
    for (std::uint64_t i = 0; i < 4; ++i)
      versions.push_back(object_bytes(options.whole_reads + static_cast<std::size_t>(i), i));
    require_done(store.put(key_of("object"), versions[0]), "put");
    FirstTrouble trouble;
    std::atomic<std::size_t> writing = std::max<std::size_t>(options.threads / 2, 1);
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < std::max<std::size_t>(options.threads, 2); ++i)
        threads.emplace_back([&, i, writers = std::max<std::size_t>(options.threads / 2, 1)] {
          trouble.watch([&] {
            if (i < writers) {
              struct Done {
                std::atomic<std::size_t>& left;
                ~Done() { --left; }
              } const done{writing};
              for (std::size_t round = 0; round < options.rounds; ++round)
                require_done(store.put(key_of("object"), versions[(round + i) % versions.size()]), "putting again");
              return;
            }
            std::vector<std::byte> to(options.whole_reads);
            do {
              require_done(again.get(key_of("object"), 0, to), "getting what is being replaced");
              require(
                  std::any_of(versions.begin(), versions.end(),
                              [&](const auto& version) { return std::equal(to.begin(), to.end(), version.begin()); }),
                  "a reader has a mix of two versions");
            } while (writing > 0);
          });
        });
    }
    trouble.tell();
    return std::string();
  });
}

}  // namespace krul::conformance
