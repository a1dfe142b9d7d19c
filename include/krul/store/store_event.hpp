#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

#include "krul/core/clock.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// What a store is asked for. Reads that are asked for together are gets, and sizes that are, sizes.
enum class StoreOperation : std::uint8_t { put, get, load, size, erase, list, lock };
inline constexpr std::size_t store_operations = 7;

/// The operation's spelling: "put", "get", ...
[[nodiscard]] constexpr std::string_view name(StoreOperation operation) noexcept {
  constexpr std::array<std::string_view, store_operations> names = {"put",   "get",  "load", "size",
                                                                    "erase", "list", "lock"};
  return names[static_cast<std::size_t>(operation)];
}

/// One call that has ended. What it points to lives until the one who is told returns.
struct StoreEvent {
  StoreOperation operation = StoreOperation::get;
  std::string_view key;          ///< or the folder; empty where all folders were listed
  std::uint64_t bytes = 0;       ///< of the object that were written or read; 0 if it failed
  Duration duration{};           ///< of reads and sizes that were asked for together: from the call to the answer
  const Error* error = nullptr;  ///< none if it succeeded
};

/// Is told of each call, by the thread that made it: several may tell at once.
using StoreEventSink = std::function<void(const StoreEvent&)>;

}  // namespace krul
