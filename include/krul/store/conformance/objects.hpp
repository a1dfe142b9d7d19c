#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "krul/store/conformance/samples.hpp"

namespace krul::conformance {

/// put, get, size, erase: one object at a time.
template <StoreMaker Make>
void check_objects(Make& make, const StoreCheckOptions& options, ConformanceReport& report) {
  report.add("objects: one that is not there", [&] {
    auto store = make.fresh();
    std::vector<std::byte> to(10);
    for (const bool alone : {true, false}) {
      if (!alone) require_done(store.put(key_of("other"), to), "put");
      const std::string when = alone ? " in an empty store" : " beside another one";
      require_fails(store.get(key_of("object"), 0, to), ErrorCode::not_found,
                    "getting an object that is not there" + when);
      require_fails(store.get(key_of("object"), 0, {}), ErrorCode::not_found,
                    "getting nothing of such an object" + when);
      require_fails(store.size(key_of("object")), ErrorCode::not_found, "the size of such an object" + when);
      require_done(store.erase(key_of("object")), "erasing such an object" + when);
    }
    require_holds(store, key_of("other"), to, "after another name was erased");
    return std::string();
  });

  report.add("objects: what was put comes back, of any size", [&] {
    auto store = make.fresh();
    auto again = make.again();
    const std::uint64_t own = store.capabilities().largest;
    const auto largest = static_cast<std::size_t>(own == 0 ? options.largest : std::min(options.largest, own));
    std::size_t tried = 0;
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{4095}, std::size_t{4097},
                                   std::size_t{65'535}, std::size_t{65'536}, std::size_t{65'537},
                                   std::size_t{1'000'003}, largest - std::min<std::size_t>(largest, 3), largest}) {
      if (size > largest) continue;
      const std::string key = key_of("object-" + std::to_string(tried));
      const auto bytes = object_bytes(size, ++tried);
      require_done(store.put(key, bytes), "putting " + std::to_string(size) + " bytes");
      require_holds(store, key, bytes, "once put");
      require_holds(again, key, bytes, "through another handle");
      require_done(store.erase(key), "erasing it");
    }
    return "the largest had " + std::to_string(largest) + " bytes";
  });

  report.add("objects: names of all kinds are names", [&] {
    auto store = make.fresh();
    const std::vector<std::string> names = {"-",
                                            "0",
                                            "a",
                                            "a-",
                                            "a-b",
                                            "a.",
                                            "a.b",
                                            "aa",
                                            "manifest-a",
                                            "manifest-b",
                                            "z--",
                                            std::string(64, 'x'),
                                            std::string(63, 'x'),
                                            "b..c"};
    for (std::size_t i = 0; i < names.size(); ++i)
      require_done(store.put(key_of(names[i]), object_bytes(10 + i, i)), "putting '" + names[i] + "'");
    for (std::size_t i = 0; i < names.size(); ++i)
      require_holds(store, key_of(names[i]), object_bytes(10 + i, i), "named '" + names[i] + "'");
    return std::string();
  });

  report.add("objects: any part can be read", [&] {
    auto store = make.fresh();
    const auto bytes = object_bytes(200'003, 1);
    require_done(store.put(key_of("object"), bytes), "put");
    for (const std::size_t offset : {0, 1, 4'096, 65'535, 65'536, 77'777, 131'072, 199'999, 200'002, 200'003})
      for (const std::size_t count : {0, 1, 3, 4'096, 65'536, 70'001, 200'003}) {
        if (count > bytes.size() - offset) continue;
        std::vector<std::byte> to(count);
        const std::string part = std::to_string(count) + " bytes from " + std::to_string(offset) + " on";
        require_done(store.get(key_of("object"), offset, to), "getting " + part);
        require(std::equal(to.begin(), to.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset)),
                part + " are not those that were put");
      }
    return std::string();
  });

  report.add("objects: reading beyond the end is truncated", [&] {
    auto store = make.fresh();
    const std::size_t size = 70'000;
    require_done(store.put(key_of("object"), object_bytes(size, 1)), "put");
    require_done(store.put(key_of("empty"), {}), "putting an empty object");
    std::vector<std::byte> to(size);
    const auto refused = [&](const std::string& object, std::uint64_t offset, std::size_t count) {
      require_fails(store.get(key_of(object), offset, std::span(to).first(count)), ErrorCode::truncated,
                    "getting " + std::to_string(count) + " bytes from " + std::to_string(offset) + " on of '" + object +
                        "', which ends before,");
    };
    for (const std::uint64_t offset : {std::uint64_t{1}, std::uint64_t{size - 1}, std::uint64_t{size}, UINT64_MAX - 7})
      refused("object", offset, size);
    for (const std::uint64_t offset : {std::uint64_t{size}, std::uint64_t{size + 1}, UINT64_MAX})
      refused("object", offset, 1);
    refused("object", size + 1, 0);
    refused("empty", 0, 1);
    refused("empty", 1, 0);
    return std::string();
  });

  report.add("objects: put replaces the whole object", [&] {
    auto store = make.fresh();
    auto again = make.again();
    std::uint64_t seed = 0;
    for (const std::size_t size : {100, 70'000, 300, 300, 0, 5, 140'000, 139'999}) {
      const auto bytes = object_bytes(size, ++seed);
      require_done(store.put(key_of("object"), bytes), "putting again");
      require_holds(store, key_of("object"), bytes, "put over another one");
      require_holds(again, key_of("object"), bytes, "put over another one through another handle");
    }
    return std::string();
  });

  report.add("objects: erase takes one away, and may be repeated", [&] {
    auto store = make.fresh();
    auto again = make.again();
    const auto bytes = object_bytes(1000, 1);
    for (const char* object : {"one", "one-more"}) require_done(store.put(key_of(object), bytes), "put");
    for (int i = 0; i < 2; ++i) {
      require_done(store.erase(key_of("one")), i == 0 ? "erasing" : "erasing twice");
      require_fails(store.size(key_of("one")), ErrorCode::not_found, "the size of what was erased");
      require_fails(again.size(key_of("one")), ErrorCode::not_found, "the size, through another handle,");
      require_holds(store, key_of("one-more"), bytes, "when another one was erased");
    }
    require_done(store.put(key_of("one"), bytes), "putting what was erased");
    require_holds(store, key_of("one"), bytes, "put after it was erased");
    return std::string();
  });

  report.add("objects: one beyond capabilities().largest is refused, and replaces nothing", [&] {
    auto store = make.fresh();
    const std::uint64_t largest = store.capabilities().largest;
    if (largest == 0) return std::string("the store has no limit of its own");
    if (largest > options.largest) return std::string("not tried: options.largest is smaller");
    const auto bytes = object_bytes(static_cast<std::size_t>(largest) + 1, 1);
    const auto before = object_bytes(10, 2);
    require_done(store.put(key_of("object"), before), "put");
    require_fails(store.put(key_of("object"), bytes), ErrorCode::too_large, "putting more than the largest object");
    require_holds(store, key_of("object"), before, "after a put that was refused");
    return std::string();
  });

  report.add("objects: what is no key is the caller's mistake", [&] {
    auto store = make.fresh();
    std::vector<std::byte> to(1);
    for (const std::string& key :
         {std::string(), store_folder, store_folder + "/", key_of(".lock"), key_of(".."), key_of("a/b"), key_of("a_b"),
          key_of("A"), key_of(std::string(65, 'x')), key_of(std::string("a\0b", 3)), std::string("../object"),
          std::string(32, 'A') + "/a", std::string(31, 'a') + "/a", std::string(33, 'a') + "/a"}) {
      require_refused([&] { (void)store.put(key, to); }, "put('" + key + "')");
      require_refused([&] { (void)store.get(key, 0, to); }, "get('" + key + "')");
      require_refused([&] { (void)store.size(key); }, "size('" + key + "')");
      require_refused([&] { (void)store.erase(key); }, "erase('" + key + "')");
    }
    for (const std::string& folder :
         {std::string(".."), std::string(31, 'a'), std::string(32, 'A'), store_folder + "/"}) {
      require_refused([&] { (void)store.list(folder); }, "list('" + folder + "')");
      require_refused([&] { (void)store.lock(folder); }, "lock('" + folder + "')");
    }
    require_refused([&] { (void)store.lock(""); }, "lock('')");
    return std::string();
  });
}

/// list of a folder and of all folders.
template <StoreMaker Make>
void check_lists(Make& make, const StoreCheckOptions& options, ConformanceReport& report) {
  report.add("lists: an empty store, and a folder that is not there", [&] {
    auto store = make.fresh();
    for (const std::string& folder : {std::string(), store_folder}) {
      const auto names = store.list(folder);
      require_done(names, "list('" + folder + "')");
      require(names->empty(), "list('" + folder + "') of an empty store names something");
    }
    return std::string();
  });

  report.add("lists: a folder's objects, all of them, sorted", [&] {
    auto store = make.fresh();
    auto again = make.again();
    std::vector<std::string> expected;
    for (std::size_t i = options.objects; i-- > 0;) expected.push_back("segment-" + std::to_string(i * 7919 % 100'003));
    for (const char* object : {"b", "a", "a.b", "a-b", "manifest-a"}) expected.emplace_back(object);
    for (const std::string& object : expected) require_done(store.put(key_of(object), {}), "put");
    require_done(store.put(other_folder + "/z", {}), "putting into another folder");
    std::sort(expected.begin(), expected.end());
    expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
    for (const bool here : {true, false}) {
      const auto names = here ? store.list(store_folder) : again.list(store_folder);
      require_done(names, "list");
      require(*names == expected, here ? "list gives other names than were put, or not in order"
                                       : "list through another handle gives other names");
    }
    require(store.list(other_folder) == std::vector<std::string>{"z"}, "a folder lists another one's objects");
    require_done(store.erase(key_of(expected.front())), "erase");
    expected.erase(expected.begin());
    require(store.list(store_folder) == expected, "list after an erase is not what is left");
    return std::to_string(expected.size()) + " objects in one folder";
  });

  report.add("lists: every folder that holds an object, sorted", [&] {
    auto store = make.fresh();
    std::vector<std::string> expected;
    for (std::size_t i = std::min<std::size_t>(options.objects, 256); i-- > 0;) {
      std::string folder = store_folder;
      folder[i % 31] = i / 16 % 2 ? 'e' : '7';
      folder[31] = "0123456789abcdef"[i % 16];
      expected.push_back(folder);
      require_done(store.put(folder + "/object", {}), "put");
      require_done(store.put(folder + "/other", {}), "put");
    }
    std::sort(expected.begin(), expected.end());
    expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
    const auto folders = store.list("");
    require_done(folders, "list('')");
    require(std::is_sorted(folders->begin(), folders->end()), "list('') is not sorted");
    require(std::adjacent_find(folders->begin(), folders->end()) == folders->end(), "list('') names a folder twice");
    require(std::all_of(folders->begin(), folders->end(), [](const std::string& f) { return is_store_folder(f); }),
            "list('') names what is no folder");
    require(std::includes(folders->begin(), folders->end(), expected.begin(), expected.end()),
            "list('') lacks a folder that holds an object");
    return std::to_string(expected.size()) + " folders";
  });
}

}  // namespace krul::conformance
