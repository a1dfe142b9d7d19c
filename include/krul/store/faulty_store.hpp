#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/store/conversation_store.hpp"

namespace krul {

/// True if `text` matches `pattern`, in which '*' stands for any run of characters.
[[nodiscard]] constexpr bool matches(std::string_view pattern, std::string_view text) noexcept {
  std::size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

/// One thing that goes wrong, and when. Calls are counted per fault: those of its operation whose key matches.
struct Fault {
  enum class Operation : std::uint8_t { get, put, size, erase, list, lock };
  enum class Kind : std::uint8_t {
    drop,      ///< get: not_found; put: acknowledged, but nothing is stored; of other operations: as fail
    corrupt,   ///< get, put: one byte is flipped, chosen by the seed; others: as fail
    truncate,  ///< get: truncated, the first half filled; put: only the first half is stored; others: as fail
    fail,      ///< returns `code` and does nothing
    delay,     ///< sleeps for `delay`, then all is well
  };
  Operation operation = Operation::get;
  Kind kind = Kind::fail;
  std::string keys = "*";   ///< pattern as in matches(), of keys or, where lists and locks fail, folders
  std::uint64_t first = 0;  ///< index of the first call that it hits
  std::uint64_t count = std::numeric_limits<std::uint64_t>::max();  ///< how many calls from there on it may hit
  double rate = 1.0;                                                ///< share of those that it hits, chosen by the seed
  std::uint64_t seed = 0;
  ErrorCode code = ErrorCode::io;
  Duration delay{};
};

/// A store that fails as told, to test what stands on it. The same calls in the same order meet the same faults.
/// Where several faults hit one call, delays add up and the first of the others counts. Copies share faults and counts.
template <ConversationStore Store, Clock C = SteadyClock>
class FaultyStore {
 public:
  using Lock = typename Store::Lock;

  explicit FaultyStore(Store store, std::vector<Fault> faults = {}, C clock = {})
      : store_(std::move(store)), clock_(std::move(clock)), state_(std::make_shared<State>()) {
    set_faults(std::move(faults));
  }

  /// Replaces the faults; their counts start at 0 again.
  void set_faults(std::vector<Fault> faults) {
    const std::lock_guard guard(state_->mutex);
    state_->faults.clear();
    for (Fault& fault : faults) state_->faults.push_back({std::move(fault)});
  }

  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    const auto hit = meet(Fault::Operation::get, key);
    if (!hit) return store_.get(key, offset, to);
    switch (hit->kind) {
      case Fault::Kind::drop:
        return krul::fail(ErrorCode::not_found, "there is no object " + key + " (a fault that was asked for)");
      case Fault::Kind::truncate:
        if (const auto status = store_.get(key, offset, to.first(to.size() / 2)); !status) return status;
        return krul::fail(ErrorCode::truncated, "object " + key + " is too short (a fault that was asked for)");
      case Fault::Kind::corrupt: {
        const auto status = store_.get(key, offset, to);
        if (status && !to.empty()) to[hit->random % to.size()] ^= flipped(*hit);
        return status;
      }
      default:
        return refused(*hit, "reading object " + key);
    }
  }

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) {
    const auto hit = meet(Fault::Operation::put, key);
    if (!hit) return store_.put(key, bytes);
    switch (hit->kind) {
      case Fault::Kind::drop:
        return {};
      case Fault::Kind::truncate:
        return store_.put(key, bytes.first(bytes.size() / 2));
      case Fault::Kind::corrupt: {
        std::vector<std::byte> damaged(bytes.begin(), bytes.end());
        if (!damaged.empty()) damaged[hit->random % damaged.size()] ^= flipped(*hit);
        return store_.put(key, damaged);
      }
      default:
        return refused(*hit, "writing object " + key);
    }
  }

  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) {
    if (const auto hit = meet(Fault::Operation::size, key)) return refused(*hit, "the size of object " + key);
    return store_.size(key);
  }
  [[nodiscard]] Status erase(const std::string& key) {
    if (const auto hit = meet(Fault::Operation::erase, key)) return refused(*hit, "erasing object " + key);
    return store_.erase(key);
  }
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) {
    if (const auto hit = meet(Fault::Operation::list, folder))
      return refused(*hit, "listing folder \"" + folder + "\"");
    return store_.list(folder);
  }
  [[nodiscard]] Result<Lock> lock(const std::string& folder) {
    if (const auto hit = meet(Fault::Operation::lock, folder)) return refused(*hit, "locking folder " + folder);
    return store_.lock(folder);
  }
  [[nodiscard]] StoreCapabilities capabilities() { return store_.capabilities(); }

  /// Calls so far, with and without a fault.
  [[nodiscard]] std::uint64_t calls(Fault::Operation operation) const { return read(state_->calls_of(operation)); }
  [[nodiscard]] std::uint64_t gets() const { return calls(Fault::Operation::get); }
  [[nodiscard]] std::uint64_t puts() const { return calls(Fault::Operation::put); }
  /// Calls that met at least one fault.
  [[nodiscard]] std::uint64_t hits() const { return read(state_->hits); }

 private:
  struct Armed {
    Fault fault;
    std::uint64_t calls = 0;
  };
  struct State {
    std::mutex mutex;
    std::vector<Armed> faults;
    std::array<std::uint64_t, 6> calls{};  // by operation
    std::uint64_t hits = 0;
    std::uint64_t& calls_of(Fault::Operation operation) { return calls[static_cast<std::size_t>(operation)]; }
  };
  struct Hit {
    Fault::Kind kind;
    ErrorCode code;
    std::uint64_t random;
  };

  [[nodiscard]] static tl::unexpected<Error> refused(const Hit& hit, const std::string& what) {
    return krul::fail(hit.code, what + " failed (a fault that was asked for)");
  }

  // SplitMix64 (Steele, Lea, Flood 2014): a good hash of seed and call index in a few operations.
  [[nodiscard]] static constexpr std::uint64_t mix(std::uint64_t seed, std::uint64_t index) noexcept {
    std::uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }

  [[nodiscard]] static constexpr std::byte flipped(const Hit& hit) noexcept {
    return std::byte{1} << (hit.random >> 61);
  }

  [[nodiscard]] std::uint64_t read(const std::uint64_t& counter) const {
    const std::lock_guard guard(state_->mutex);
    return counter;
  }

  // Counts the call, sleeps through its delays, and says what else goes wrong with it.
  std::optional<Hit> meet(Fault::Operation operation, const std::string& key) {
    std::optional<Hit> found;
    Duration delay{};
    {
      const std::lock_guard guard(state_->mutex);
      ++state_->calls_of(operation);
      bool any = false;
      for (Armed& armed : state_->faults) {
        const Fault& fault = armed.fault;
        if (fault.operation != operation || !matches(fault.keys, key)) continue;
        const std::uint64_t index = armed.calls++;
        const std::uint64_t random = mix(fault.seed, index);
        if (index < fault.first || index - fault.first >= fault.count) continue;
        if (static_cast<double>(random >> 11) * 0x1p-53 >= fault.rate) continue;
        any = true;
        if (fault.kind == Fault::Kind::delay)
          delay += fault.delay;
        else if (!found)
          found = Hit{fault.kind, fault.code, mix(fault.seed, ~index)};
      }
      state_->hits += any;
    }
    if (delay > Duration::zero()) clock_.sleep_until(clock_.now() + delay);
    return found;
  }

  Store store_;
  C clock_;
  std::shared_ptr<State> state_;
};

}  // namespace krul
