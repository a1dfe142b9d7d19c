#pragma once

#include <sstream>
#include <string>
#include <utility>

#include "krul/store/conformance.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/store/memory_store.hpp"

namespace krul::test {

/// Stores for check_store that wrap(inner) makes of a store; a copy is another handle.
template <class Inner, class Wrap>
struct MakesWrapped {
  using Store = std::invoke_result_t<Wrap&, Inner>;
  Wrap wrap;
  Store store = wrap(Inner(MemoryStore()));
  Store fresh() { return store = wrap(Inner(MemoryStore())); }
  Store again() { return store; }
};

/// What check_store finds out about wrap(MemoryStore) and wrap(FaultyStore without faults): empty if all is well.
template <class Wrap>
std::string broken_promises(Wrap wrap) {
  const StoreCheckOptions options{.largest = 300'000, .rounds = 10};
  std::ostringstream broken;
  MakesWrapped<MemoryStore, Wrap> plain{wrap};
  MakesWrapped<FaultyStore<MemoryStore>, Wrap> faultless{wrap};
  for (const ConformanceReport& report : {check_store(plain, options), check_store(faultless, options)})
    for (const ConformanceCheck& check : report.checks())
      if (!check.passed) broken << check.name << ": " << check.detail << '\n';
  return broken.str();
}

}  // namespace krul::test
