#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "krul/backend/model_backend.hpp"
#include "krul/core/error.hpp"
#include "krul/core/version.hpp"
#include "krul/store/manifest.hpp"

namespace krul {

/// The manifest of a conversation of which nothing is saved yet.
/// @param block  tokens of a stored block
/// @throws       PreconditionError unless they are below 2^32
template <ModelBackend B>
[[nodiscard]] Manifest new_manifest(const B& model, std::string id, std::size_t block) {
  expects(block <= UINT32_MAX, "new_manifest: a block of less than 2^32 tokens");
  Manifest manifest;
  manifest.conversation = std::move(id);
  manifest.identity = model.identity();
  manifest.layers = model.geometry().layers;
  manifest.block = static_cast<std::uint32_t>(block);
  manifest.writer = krul_version;
  return manifest;
}

}  // namespace krul
