#include "store_option.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <system_error>
#include <utility>

#include "krul/core/private_folders.hpp"
#include "krul/redis/redis_options.hpp"
#include "krul/redis/redis_store.hpp"
#include "krul/s3/s3_store.hpp"
#include "krul/s3/s3_url.hpp"
#include "krul/store/bounded_store.hpp"
#include "krul/store/counted_store.hpp"
#include "krul/store/encrypted_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/tiered_store.hpp"
#include "metrics_page.hpp"
#include "tool.hpp"

namespace krul::cli {
namespace {

std::filesystem::path default_folder() {
  return cache_folder() / "conversations";
}

AnyStore open_folder(const std::filesystem::path& folder, StoreUse use) {
  if (use == StoreUse::begin && folder.has_parent_path())
    static_cast<void>(make_private_folders(folder.parent_path()));  // what is wrong is told when the store is opened
  return unwrap(FileStore::open(folder, {.create = use == StoreUse::begin, .read_only = use == StoreUse::read}));
}

AnyStore open_place(const std::string& place, StoreUse use) {
  if (place == "memory") return MemoryStore();
  if (place.starts_with("redis://")) return unwrap(RedisStore::open(unwrap(parse_redis_url(place))));
  if (place.starts_with("s3://")) return unwrap(S3Store::open(unwrap(parse_s3_url(place))));
  if (!is_folder_place(place))
    throw Failure({ErrorCode::invalid_argument, "there are no stores like " + place.substr(0, place.find(':')) +
                                                    "://; there are folders, memory, redis:// and s3://"});
  return open_folder(place, use);
}

/// A place without its password, for people.
std::string shown(const std::string& place) {
  const std::size_t scheme = place.find("://"), at = place.rfind('@');
  if (scheme == std::string::npos || at == std::string::npos || at < scheme) return place;
  return place.substr(0, scheme + 3) + place.substr(at + 1);
}

bool is_server_out_of_reach(const std::string& place, const Error& error) {
  return !is_folder_place(place) && is_out_of_reach(error.code);
}

/// Ends the program if one place is named twice: what is erased near would be gone far as well.
void expect_different(const std::vector<std::string>& places) {
  for (std::size_t i = 0; i < places.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (is_same_place(places[j], places[i]))
        throw Failure({ErrorCode::invalid_argument, "--store names one place twice, \"" + shown(places[j]) +
                                                        "\" and \"" + shown(places[i]) + "\"; leave one of them out"});
}

/// Without links and the like, as far as it is there; empty if that cannot be told.
std::filesystem::path resolved(const std::string& folder) {
  std::error_code none;
  return std::filesystem::weakly_canonical(std::filesystem::absolute(folder, none), none) / "";
}

}  // namespace

std::vector<std::string> store_places(const std::string& text) {
  std::error_code none;                                    // what cannot be looked for is told when it is opened
  if (std::filesystem::exists(text, none)) return {text};  // a folder's name may have commas
  std::vector<std::string> places;
  std::stringstream list(text);
  for (std::string place; std::getline(list, place, ',');) places.push_back(place);
  return places;
}

bool is_folder_place(const std::string& place) {
  return place != "memory" && place.find("://") == std::string::npos;
}

bool is_same_place(const std::string& a, const std::string& b) {
  if (a == "memory" || b == "memory") return false;  // each is a new one
  if (is_folder_place(a) && is_folder_place(b)) {
    std::error_code none;
    const auto one = resolved(a), other = resolved(b);
    return std::filesystem::equivalent(a, b, none) || (!one.empty() && one == other);
  }
  if (a.starts_with("redis://") && b.starts_with("redis://")) {
    const auto one = parse_redis_url(a), other = parse_redis_url(b);
    return one && other && one->host == other->host && one->port == other->port && one->database == other->database &&
           one->prefix == other->prefix;
  }
  if (a.starts_with("s3://") && b.starts_with("s3://")) {
    const auto one = parse_s3_url(a), other = parse_s3_url(b);
    return one && other && one->endpoint == other->endpoint && one->bucket == other->bucket &&
           one->prefix == other->prefix;
  }
  return a == b;
}

void say_evicted(std::uint64_t count, const Tool& tool) {
  if (count > 0)
    tool.say("(" + std::to_string(count) + (count == 1 ? " conversation was" : " conversations were") +
             " erased to make room; a higher --store-bytes keeps more)");
}

std::optional<std::uint64_t> parse_bytes(const std::string& text) {
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || !(number > 0)) return std::nullopt;
  const std::string unit(rest, text.data() + text.size());
  const double scale = unit.empty() || unit == "B" ? 1
                       : unit == "kB"              ? 1e3
                       : unit == "MB"              ? 1e6
                       : unit == "GB"              ? 1e9
                       : unit == "TB"              ? 1e12
                                                   : 0;
  const double bytes = std::floor(number * scale);
  if (bytes < 1 || bytes > 1e18) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

void StoreOptions::add_to(CLI::App& verb) {
  verb.add_option("--store", places,
                  "where conversations are saved: a folder, redis://host:port, s3://bucket/prefix, memory, or several "
                  "with commas between them, near before far")
      ->default_str(default_folder().string());
  verb.add_option("--store-bytes", bytes_,
                  "the most that the first of these may hold, such as 20GB: what is least worth keeping makes room")
      ->check([](const std::string& text) {
        return parse_bytes(text) ? std::string() : "\"" + text + "\" is no number of bytes, such as 500MB or 20GB";
      });
  add_key_to(verb, "--store-key");
  verb.add_option("--store-metrics", metrics_,
                  "file that gets a page for Prometheus when the verb ends: calls, bytes, errors, seconds");
}

void StoreOptions::add_key_to(CLI::App& verb, const std::string& name) {
  verb.add_option(name, key_file_, "file of 32 bytes that all is encrypted with");
}

std::filesystem::path StoreOptions::folder() const {
  for (const std::string& place : store_places(places))
    if (is_folder_place(place)) return place;
  return default_folder();
}

OpenedStore StoreOptions::open(StoreUse use) const {
  return open_counted(use, nullptr);
}

OpenedStore StoreOptions::open_to_read(const Tool& tool) const {
  return open_counted(StoreUse::read, &tool);
}

OpenedStore StoreOptions::open_last(StoreUse use) const {
  const auto list = store_places(places);
  if (list.size() < 2) return open(use);
  expect_different(list);
  StoreOptions last = *this;
  last.places = list.back();
  last.bytes_.clear();  // bounds the first
  return last.open(use);
}

OpenedStore StoreOptions::open_counted(StoreUse use, const Tool* tool) const {
  OpenedStore opened = open_places(use, tool);
  if (metrics_.empty()) return opened;
  const auto page = std::make_shared<MetricsPage>(metrics_, opened.name);
  unwrap(page->write());  // before the work, not after it
  opened.store = CountedStore(std::move(opened.store), [page](const StoreEvent& event) { page->add(event); });
  return opened;
}

OpenedStore StoreOptions::open_places(StoreUse use, const Tool* tool) const {
  auto list = store_places(places);
  expect_different(list);
  if (list.empty()) list.push_back(default_folder().string());
  std::optional<EncryptionKeys> keys;
  if (!key_file_.empty()) keys.emplace(EncryptionKeys{unwrap(read_encryption_key(key_file_))});
  const auto guarded = [&](AnyStore store) {
    if (!keys) return store;
    return AnyStore(unwrap(EncryptedStore<AnyStore>::make(std::move(store), *keys)));
  };
  const auto bounded = [&](OpenedStore place) {
    if (bytes_.empty() || use == StoreUse::read) return place;
    auto store = unwrap(BoundedStore<AnyStore>::open(std::move(place.store), {.bytes = *parse_bytes(bytes_)}));
    return OpenedStore{store, std::move(place.name), [store] { return store.evicted(); }};
  };
  if (list.size() == 1) return bounded({guarded(open_place(list[0], use)), shown(list[0])});
  std::optional<AnyStore> store;
  std::string name;
  for (std::size_t i = list.size(); i-- > 0;) {
    name = shown(list[i]) + (name.empty() ? "" : ",") + name;
    try {
      OpenedStore place{guarded(open_place(list[i], use)), shown(list[i])};
      if (i == 0) place = bounded(std::move(place));
      store = store ? AnyStore(TieredStore(std::move(place.store), std::move(*store))) : std::move(place.store);
    } catch (const Failure& failure) {
      if (i == 0 || !tool || !is_server_out_of_reach(list[i], failure.error)) throw;
      tool->say("(" + shown(list[i]) + " is left out, and what is near may be older and not all: " + failure.what() +
                ")");
    }
  }
  return {std::move(*store), std::move(name)};
}

MeasuredPlace StoreOptions::measured(const OpenedStore& opened) const {
  const auto list = store_places(places);
  if (list.empty() || is_folder_place(list.front())) return {folder(), {}};
  return {folder(), opened};
}

}  // namespace krul::cli
