#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "krul/store/any_store.hpp"
#include "krul/store/file_store.hpp"

namespace krul::cli {

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
  /// The folder, or that for what has to be on this machine: temporary files, say.
  [[nodiscard]] std::filesystem::path folder() const;
  /// @param opened  what open gave
  [[nodiscard]] MeasuredPlace measured(const OpenedStore& opened) const;

  std::string places;  ///< as --store says it

 private:
  [[nodiscard]] OpenedStore open_places(StoreUse use) const;

  std::string bytes_;
  std::string key_file_;
  std::string metrics_;
};

/// The parts of --store: "memory", a folder, redis://... or s3://..., near before far.
[[nodiscard]] std::vector<std::string> store_places(const std::string& text);

/// Whether a part of --store is a folder.
[[nodiscard]] bool is_folder_place(const std::string& place);

/// A number of bytes as people write it: 500MB, 2GB, 1TB, 4096.
[[nodiscard]] std::optional<std::uint64_t> parse_bytes(const std::string& text);

}  // namespace krul::cli
