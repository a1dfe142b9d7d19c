#pragma once

#include "krul/store/conformance/objects.hpp"
#include "krul/store/conformance/samples.hpp"
#include "krul/store/conformance/sharing.hpp"
#include "krul/store/conformance/together.hpp"

namespace krul {

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
  ConformanceReport report;
  conformance::check_objects(make, options, report);
  conformance::check_lists(make, options, report);
  conformance::check_locks(make, options, report);
  conformance::check_threads(make, options, report);
  conformance::check_together(make, report);
  return report;
}

}  // namespace krul
