#pragma once

#include <functional>

#include "krul/store/any_store.hpp"
#include "krul/store/conformance/objects.hpp"
#include "krul/store/conformance/samples.hpp"
#include "krul/store/conformance/sharing.hpp"
#include "krul/store/conformance/together.hpp"

namespace krul {
namespace conformance {

/// Any maker's stores behind one type, so that the suite is compiled once for all of them.
class AnyMaker {
 public:
  /// @param make  must outlive this
  template <StoreMaker Make>
  explicit AnyMaker(Make& make)
      : fresh_([&make] { return AnyStore(make.fresh()); }), again_([&make] { return AnyStore(make.again()); }) {}
  [[nodiscard]] AnyStore fresh() { return fresh_(); }
  [[nodiscard]] AnyStore again() { return again_(); }

 private:
  std::function<AnyStore()> fresh_, again_;
};
static_assert(StoreMaker<AnyMaker>);

}  // namespace conformance

/// Proves a store: objects, lists, locks, several threads, and what is asked for together. What outlives a crash or a
/// loss of power is not tried, nor what a store does when it fails.
///
///   struct Make {
///     MemoryStore store;
///     MemoryStore fresh() { return store = MemoryStore(); }
///     MemoryStore again() { return store; }
///   } make;
///   const ConformanceReport report = check_store(make);
///
/// @throws      PreconditionError if options.threads is below 2; what the store throws ends up in the report
/// @complexity  some thousand calls, 10 * options.largest bytes each way
template <StoreMaker Make>
ConformanceReport check_store(Make& make, const StoreCheckOptions& options = {}) {
  expects(options.threads >= 2, "check_store: at least 2 threads");
  conformance::AnyMaker any(make);
  ConformanceReport report;
  conformance::check_objects(any, options, report);
  conformance::check_lists(any, options, report);
  conformance::check_locks(any, options, report);
  conformance::check_threads(any, options, report);
  conformance::check_together(any, report);
  return report;
}

}  // namespace krul
