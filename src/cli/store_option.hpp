#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "krul/store/any_store.hpp"
#include "krul/store/file_store.hpp"

namespace krul::cli {

class Tool;

/// What a verb does with a store.
enum class StoreUse : std::uint8_t {
  read,    ///< needs no right to write
  change,  ///< writes to one that is there
  begin,   ///< writes; a folder is made if it is not there
};

/// A store, and what people call it.
struct OpenedStore {
  AnyStore store;
  std::string name;
  /// Conversations that have been erased to make room; none where only their near copies were.
  std::function<std::uint64_t()> evicted = [] { return 0; };
};

/// Where costs of restores are measured: a store, or the disk of a folder.
struct MeasuredPlace {
  std::filesystem::path folder;
  std::optional<OpenedStore> far = {};  ///< counts, if it is there
};

/// --store, --store-bytes, --store-key, --store-metrics
class StoreOptions {
 public:
  void add_to(CLI::App& verb);
  /// The option of another name for --store-key, where a verb has two stores.
  void add_key_to(CLI::App& verb, const std::string& name);
  /// Ends the program if it cannot be opened.
  [[nodiscard]] OpenedStore open(StoreUse use) const;
  /// For verbs that only read: a server behind the first place that is out of reach is left out, which is told.
  [[nodiscard]] OpenedStore open_to_read(const Tool& tool) const;
  /// The last place alone, which is the one that counts.
  [[nodiscard]] OpenedStore open_last(StoreUse use) const;
  /// The folder, or that for what has to be on this machine: temporary files, say.
  [[nodiscard]] std::filesystem::path folder() const;
  /// @param opened  what open gave
  [[nodiscard]] MeasuredPlace measured(const OpenedStore& opened) const;

  std::string places;  ///< as --store says it

 private:
  /// @param tool  is told what is left out; none: everything has to be opened
  [[nodiscard]] OpenedStore open_counted(StoreUse use, const Tool* tool) const;
  [[nodiscard]] OpenedStore open_places(StoreUse use, const Tool* tool) const;

  std::string bytes_;
  std::string key_file_;
  std::string metrics_;
};

/// The parts of --store: "memory", a folder, redis://... or s3://..., near before far.
[[nodiscard]] std::vector<std::string> store_places(const std::string& text);

/// Whether a part of --store is a folder.
[[nodiscard]] bool is_folder_place(const std::string& place);

/// Whether two parts of --store are one place, as far as can be told without asking servers.
[[nodiscard]] bool is_same_place(const std::string& a, const std::string& b);

/// Says how many conversations were erased to make room, if any were.
void say_evicted(std::uint64_t count, const Tool& tool);

/// A number of bytes as people write it: 500MB, 2GB, 1TB, 4096.
[[nodiscard]] std::optional<std::uint64_t> parse_bytes(const std::string& text);

}  // namespace krul::cli
