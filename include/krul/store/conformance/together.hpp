#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "krul/store/conformance/samples.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/ranged_reads.hpp"
#include "krul/store/whole_object.hpp"

namespace krul::conformance {

/// What get_together told, by read.
struct ToldEnds {
  std::vector<std::optional<Status>> ends;
  bool twice = false, unknown = false, elsewhere = false;  // told again, told of no read, told by another thread
  std::thread::id caller = std::this_thread::get_id();

  explicit ToldEnds(std::size_t reads) : ends(reads) {}
  void tell(std::size_t i, const Status& status) {
    elsewhere = elsewhere || std::this_thread::get_id() != caller;
    if (i >= ends.size()) {
      unknown = true;
      return;
    }
    twice = twice || ends[i].has_value();
    ends[i] = status;
  }
  void require_once() const {
    require(!unknown, "an end is told of a read that nobody asked for");
    require(!twice, "the end of a read is told twice");
    require(!elsewhere, "an end is told by another thread than the one that called");
    for (const auto& end : ends) require(end.has_value(), "the end of a read is not told");
  }
};

/// Many reads at once, sizes at once, whole objects; or how they are made of single calls.
template <StoreMaker Make>
void check_together(Make& make, ConformanceReport& report) {
  const auto bytes = object_bytes(150'001, 1);
  const auto filled = [&make, &bytes] {
    auto store = make.fresh();
    require_done(store.put(key_of("one"), bytes), "put");
    require_done(store.put(key_of("two"), std::span(bytes).first(70'000)), "put");
    require_done(store.put(key_of("empty"), {}), "put");
    return store;
  };
  struct Wanted {
    const char* object;
    std::uint64_t offset;
    std::size_t count;
  };
  static constexpr Wanted wanted[] = {
      {"one", 0, 150'001},    {"two", 100, 5'000},  {"one", 65'000, 1'000}, {"none", 0, 10},
      {"one", 65'000, 1'000}, {"two", 69'999, 2},   {"empty", 0, 0},        {"one", 150'001, 0},
      {"empty", 0, 1},        {"two", 0, 70'000},   {"one", 150'002, 0},    {"one", 66'000, 7},
      {"one", UINT64_MAX, 4}, {"two", 65'536, 100}, {"none", 0, 0},         {"one", 149'000, 501}};
  struct Reads {
    std::vector<std::vector<std::byte>> to;
    std::vector<RangedRead> reads;
    Reads() {
      for (const Wanted& read : wanted) to.emplace_back(read.count);
      for (std::size_t i = 0; i < to.size(); ++i) reads.push_back({key_of(wanted[i].object), wanted[i].offset, to[i]});
    }
  };

  report.add("reads together: each ends as if it were alone, and is told once by the thread that asked", [&] {
    auto store = filled();
    Reads together, alone;
    ToldEnds told(together.reads.size());
    get_together(store, std::span<const RangedRead>(together.reads), {},
                 [&](std::size_t i, const Status& status) { told.tell(i, status); });
    told.require_once();
    for (std::size_t i = 0; i < alone.reads.size(); ++i) {
      const RangedRead& read = alone.reads[i];
      const Status expected = store.get(read.key, read.offset, read.to);
      const Status& status = *told.ends[i];
      const std::string what = std::to_string(read.to.size()) + " bytes of '" + wanted[i].object + "' from " +
                               std::to_string(read.offset) + " on, read with others,";
      if (!expected) {
        require_fails(status, expected.error().code, what);
        continue;
      }
      require_done(status, what);
      require(together.to[i] == alone.to[i], what + " are not what get reads");
    }
    get_together(store, {}, {},
                 [](std::size_t, const Status&) { throw Broken("an end is told where nothing was read"); });
    return std::string();
  });

  report.add("reads together: none ends well when its time is over, or its caller gave up", [&] {
    auto store = filled();
    Reads wants;
    std::stop_source stop;
    stop.request_stop();
    const std::pair<RequestLimits, ErrorCode> over[] = {{{.deadline = TimePoint::min()}, ErrorCode::deadline},
                                                        {{.stop = stop.get_token()}, ErrorCode::cancelled}};
    for (const auto& [limits, code] : over) {
      ToldEnds told(wants.reads.size());
      get_together(store, std::span<const RangedRead>(wants.reads), limits,
                   [&](std::size_t i, const Status& status) { told.tell(i, status); });
      told.require_once();
      for (const auto& end : told.ends) require_fails(*end, code, "a read whose limits are reached");
    }
    return std::string();
  });

  report.add("reads together: who gives up meanwhile is told an end of each read", [&] {
    auto store = filled();
    Reads wants;
    std::stop_source stop;
    ToldEnds told(wants.reads.size());
    get_together(store, std::span<const RangedRead>(wants.reads), {.stop = stop.get_token()},
                 [&](std::size_t i, const Status& status) {
                   told.tell(i, status);
                   stop.request_stop();
                 });
    told.require_once();
    for (std::size_t i = 0; i < wants.reads.size(); ++i) {
      const RangedRead& read = wants.reads[i];
      if (*told.ends[i] && !read.to.empty())
        require(std::equal(read.to.begin(), read.to.end(), bytes.begin() + static_cast<std::ptrdiff_t>(read.offset)),
                "a read is told to be there, and is not");
    }
    return std::string();
  });

  report.add("sizes together: as one by one, in the order that was asked", [&] {
    auto store = filled();
    const std::vector<std::string> keys = {key_of("two"), key_of("none"), key_of("one"), key_of("empty"),
                                           key_of("two")};
    const auto sizes = object_sizes(store, std::span(keys));
    require(sizes.size() == keys.size(), "there are not as many sizes as keys");
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const auto expected = store.size(keys[i]);
      if (!expected)
        require_fails(sizes[i], expected.error().code, "the size of what is not there, with others,");
      else
        require(sizes[i] == expected, "a size, with others, is not what size says");
    }
    require(object_sizes(store, std::span<const std::string>()).empty(), "there are sizes of no keys");
    return std::string();
  });

  report.add("whole objects: up to the bound", [&] {
    auto store = filled();
    const auto at_bound = load_object(store, key_of("one"), bytes.size());
    require_done(at_bound, "loading an object as large as it may be");
    require(*at_bound == bytes, "an object that is loaded is not what was put");
    require(load_object(store, key_of("one"), UINT64_MAX) == bytes,
            "an object loaded without a bound is not what was put");
    require_fails(load_object(store, key_of("one"), bytes.size() - 1), ErrorCode::too_large,
                  "loading an object that is one byte larger than it may be");
    require_fails(load_object(store, key_of("one"), 0), ErrorCode::too_large,
                  "loading an object where none may have a byte");
    require_fails(load_object(store, key_of("none"), 10), ErrorCode::not_found, "loading an object that is not there");
    const auto empty = load_object(store, key_of("empty"), 0);
    require(empty && empty->empty(), "an empty object cannot be loaded");
    return std::string();
  });

  report.add("together: what is no key is the caller's mistake", [&] {
    auto store = filled();
    const std::vector<std::string> keys = {key_of("one"), store_folder + "/../x"};
    std::byte byte{};
    const std::vector<RangedRead> reads = {{keys[1], 0, std::span(&byte, 1)}};
    require_refused([&] { get_together(store, std::span(reads), {}, [](std::size_t, const Status&) {}); },
                    "get_together");
    require_refused([&] { (void)object_sizes(store, std::span(keys)); }, "sizes");
    require_refused([&] { (void)load_object(store, keys[1], 10); }, "load");
    return std::string();
  });
}

}  // namespace krul::conformance
