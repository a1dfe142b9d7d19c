#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/file_log.hpp"

namespace krul::test {

/// Which of a folder's changes a power cut takes away that were not forced out.
enum class LostNames : std::uint8_t {
  newest,  ///< the last ones: file systems that log changes of a folder keep their order
  any,     ///< any: nothing promises an order
};

/// What may be left of logged work after a power cut: what was synced, and of the rest what chance leaves. Bytes of a
/// file that were not forced out are there, missing, cut off or have holes.
class PowerCut {
 public:
  using Random = std::mt19937_64;

  PowerCut(const FileLog& log, LostNames names) : log_(&log), names_(names) {}

  /// Builds what is left after the first `done` operations, in an empty folder.
  void leave(std::size_t done, Random& random, const std::filesystem::path& in) const {
    std::vector<Node> nodes(log_->nodes);
    for (std::size_t i = 0; i < done; ++i) apply(log_->operations[i], nodes);
    // What is in memory is written sooner or later: sometimes nothing is yet, sometimes all.
    const unsigned luck = static_cast<unsigned>(random() % 5);
    for (Node& node : nodes) {
      keep_names(node, luck, random);
      keep_bytes(node, luck, random);
    }
    build(nodes, 0, in);
  }

 private:
  struct NameChange {
    std::string name;
    std::size_t node = 0;  ///< that it stands for from now on
    bool makes_folder = false, removes = false;
    std::string before = {};  ///< another name of it until now
  };
  using Names = std::map<std::string, std::size_t>;
  struct Node {
    bool is_folder = false;
    Names synced, now;
    std::vector<NameChange> changes;  ///< since the last sync
    std::vector<std::byte> bytes;
    std::size_t synced_bytes = 0;
  };

  static void apply(const NameChange& change, Names& names) {
    if (!change.before.empty()) names.erase(change.before);
    if (change.removes) names.erase(change.name);
    if (!change.removes) names[change.name] = change.node;
  }

  static void apply(const FileOperation& operation, std::vector<Node>& nodes) {
    Node& folder = nodes[operation.folder];
    Node& node = nodes[operation.node];
    const auto change = [&](NameChange names) {
      apply(names, folder.now);
      folder.changes.push_back(std::move(names));
    };
    switch (operation.kind) {
      case FileOperation::Kind::make_folder:
        node.is_folder = true;
        return change({.name = operation.name, .node = operation.node, .makes_folder = true});
      case FileOperation::Kind::make_file:
        return change({.name = operation.name, .node = operation.node});
      case FileOperation::Kind::rename:
        return change({.name = operation.to, .node = folder.now.at(operation.name), .before = operation.name});
      case FileOperation::Kind::remove:
        return change({.name = operation.name, .removes = true});
      case FileOperation::Kind::write:
        node.bytes.insert(node.bytes.end(), operation.bytes.begin(), operation.bytes.end());
        return;
      case FileOperation::Kind::sync:
        node.synced = node.now;
        node.changes.clear();
        node.synced_bytes = node.bytes.size();
    }
  }

  void keep_names(Node& node, unsigned luck, Random& random) const {
    if (luck == 1) return;
    const std::size_t newest = luck == 0 ? 0 : random() % (node.changes.size() + 1);
    node.now = node.synced;
    for (std::size_t i = 0; i < node.changes.size(); ++i) {
      const bool kept = names_ == LostNames::newest || luck == 0 ? i < newest : random() % 2 == 0;
      // Mostly the folders are there, or nothing else would be looked at.
      if (kept || (luck > 2 && node.changes[i].makes_folder)) apply(node.changes[i], node.now);
    }
  }

  static void keep_bytes(Node& node, unsigned luck, Random& random) {
    const std::size_t synced = node.synced_bytes, unsynced = node.bytes.size() - synced;
    if (luck == 1 || unsynced == 0) return;
    switch (luck == 0 ? 0 : random() % 4) {
      case 0:
        return node.bytes.resize(synced);
      case 1:
        return node.bytes.resize(synced + random() % unsynced);
      case 2:  // its size is there, and not all of its sectors
        for (std::size_t at = synced; at < node.bytes.size(); at += 512)
          if (random() % 2 == 0)
            std::fill_n(node.bytes.begin() + static_cast<std::ptrdiff_t>(at),
                        std::min<std::size_t>(512, node.bytes.size() - at), std::byte{0});
        return;
      default:
        return;
    }
  }

  static void build(const std::vector<Node>& nodes, std::size_t folder, const std::filesystem::path& in) {
    for (const auto& [name, node] : nodes[folder].now) {
      if (nodes[node].is_folder) {
        std::filesystem::create_directory(in / name);
        build(nodes, node, in / name);
      } else {
        const auto& bytes = nodes[node].bytes;
        std::ofstream(in / name, std::ios::binary)
            .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      }
    }
  }

  const FileLog* log_;
  LostNames names_;
};

}  // namespace krul::test
