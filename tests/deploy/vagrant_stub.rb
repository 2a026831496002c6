# SPDX-License-Identifier: GPL-2.0-or-later
# What a Vagrantfile declares, as JSON: a stand-in for Vagrant that writes down whatever it is told.
require "json"

# Takes every message: assignments become values, calls become lists of calls, blocks are run.
class Recorder < BasicObject
  attr_reader :told

  def initialize
    @told = {}
  end

  def method_missing(name, *arguments, **options, &block)
    text = name.to_s
    if text.end_with?("=")
      @told[text.chomp("=")] = arguments.first
    elsif arguments.empty? && options.empty? && block.nil?
      @told[text] ||= ::Recorder.new
    else
      call = { "arguments" => arguments, "options" => options }
      if block
        inner = ::Recorder.new
        block.call(inner)
        call["block"] = inner
      end
      (@told[text] ||= []) << call
    end
  end

  def respond_to_missing?(*)
    true
  end

  def to_json(*arguments)
    @told.to_json(*arguments)
  end
end

module Vagrant
  def self.configure(version)
    raise "version #{version}" unless version == "2"

    recorder = Recorder.new
    yield recorder
    puts recorder.to_json
  end
end

load ARGV.fetch(0)
